-- sweep: dead letters lose their text after 24 hours and are dropped after 14 days, up to 100 of
-- each a call, and conversations forget their last reply after a day. Everything else that ages has
-- a time to live.
-- ARGV: clock. Gives 1.

local DLC, DLX, ME, MEZ = unpack(KEYS, 16, 19)

bring_back_letters()
local old = redis.call("ZRANGEBYSCORE", DLZ, "-inf", now - 1209600000, "LIMIT", 0, 100)
for _, name in ipairs(old) do
  local channel = string.match(name, "^%d+ (%S+) ")
  redis.call("HDEL", DL, name)
  redis.call("ZREM", DLZ, name)
  -- Should it be no name, whoever asks for the letters next sees that one is missing.
  if channel then redis.call("ZREM", DLX, "#" .. name, "@" .. channel .. " " .. name) end
  if channel and redis.call("HINCRBY", DLC, channel, -1) <= 0 then
    redis.call("HDEL", DLC, channel)
  end
end

-- Letters without text are always the oldest ones: their number says where the others begin.
local stripped = math.max(0, (tonumber(redis.call("HGET", META, "stripped")) or 0) - #old)
local candidates = redis.call("ZRANGE", DLZ, stripped, stripped + 99, "WITHSCORES")
for at = 1, #candidates, 2 do
  if tonumber(candidates[at + 1]) + 86400000 > now then break end
  local text = redis.call("HGET", DL, candidates[at])
  local good, letter = pcall(cjson.decode, text or "")
  if good and type(letter) == "table" then
    letter.text = nil
    redis.call("HSET", DL, candidates[at], cjson.encode(letter))
  elseif text then
    -- What cannot be read may still hold somebody's words.
    redis.call("HDEL", DL, candidates[at])
  end
  stripped = stripped + 1
end
if #old > 0 or stripped > (tonumber(redis.call("HGET", META, "stripped")) or 0) then
  redis.call("HSET", META, "stripped", stripped)
  changed()
end
local over = redis.call("ZRANGEBYSCORE", MEZ, "-inf", now, "LIMIT", 0, 1000)
for _, conversation in ipairs(over) do
  redis.call("HDEL", ME, conversation)
  redis.call("ZREM", MEZ, conversation)
end
return 1
