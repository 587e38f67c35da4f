-- What a conversation remembers of its last reply, for a day. "" is nothing.

local ME, MEZ = KEYS[16], KEYS[17]

local function memorise(conversation, memo)
  if memo == "" then
    -- Mostly there was none.
    if redis.call("HDEL", ME, conversation) == 1 then redis.call("ZREM", MEZ, conversation) end
  else
    redis.call("HSET", ME, conversation, digits(now + 86400000) .. " " .. memo)
    redis.call("ZADD", MEZ, now + 86400000, conversation)
  end
end
