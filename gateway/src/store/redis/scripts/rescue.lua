-- Counting of rescues, for the verbs that end a message. Counter and marks stand beside the
-- evidence and the customers, where a gateway that knows no rescue does not look: it reads a
-- customer as failed, as he was.

local RE = KEYS[18]

-- Stable answered a customer whom the canary of this serving had failed: he counts once.
local function rescue(serving, conversation)
  local mark = serving .. ":rescued:" .. conversation
  local known = redis.call("HMGET", CU, "until", serving .. ":canary:" .. conversation, mark)
  if (tonumber(known[1]) or 0) <= now or known[2] ~= "1" or known[3] then return end
  redis.call("HSET", CU, mark, "1")
  if redis.call("HINCRBY", RE, serving .. ":canary:rescued", 1) == 1 then
    local oldest = oldest_beside(tonumber(serving))
    for _, field in ipairs(redis.call("HKEYS", RE)) do
      if serving_of(field) < oldest then redis.call("HDEL", RE, field) end
    end
  end
  redis.call("PEXPIRE", RE, 7776000000) -- 90 days
end

-- Counts "<serving>:<track>:<class>" once for this message, or "<serving>:canary:rescued"; ""
-- counts nothing.
local function conclude(conversation, row, field)
  local serving = string.match(field, "^(%d+):canary:rescued$")
  if serving then rescue(serving, conversation) else count(conversation, row, field) end
end
