-- What is remembered of deliveries, and its time, for the verbs that change it. The row of a
-- conversation is "<intent>.<segment>=<number> ..." and ends at its score.
-- KEYS: the time of the last change; undelivered by channel, "<count> <code> <at>", and by time;
-- segments by conversation, and when they are forgotten.

local NOW, UN, UNZ, ST, STZ = unpack(KEYS, 1, 5)
local clock = now
now = math.max(clock, tonumber(redis.pcall("GET", NOW)) or 0)

local function digits(number)
  return string.format("%.0f", number)
end

local function changed()
  redis.call("SET", NOW, digits(now), "PX", 1209600000)
end

local function drop(conversation)
  redis.call("HDEL", ST, conversation)
  redis.call("ZREM", STZ, conversation)
end

-- Drops what has ended, up to 256 of each kind; then the oldest of more than 32768 conversations:
-- whoever signs callbacks may name as many as he likes.
local function forget()
  local ended = redis.call("ZRANGEBYSCORE", STZ, "-inf", digits(now), "LIMIT", 0, 256)
  local over = digits(now - 1209600000) -- 14 days
  local told = redis.call("ZRANGEBYSCORE", UNZ, "-inf", over, "LIMIT", 0, 256)
  for _, conversation in ipairs(ended) do drop(conversation) end
  for _, channel in ipairs(told) do
    redis.call("ZREM", UNZ, channel)
    redis.call("HDEL", UN, channel)
  end
  if #ended > 0 or #told > 0 then changed() end
  local many = redis.call("ZCARD", STZ) - 32768
  if many <= 0 then return end
  for _, conversation in ipairs(redis.call("ZRANGE", STZ, 0, math.min(many, 256) - 1)) do
    drop(conversation)
  end
end

-- A clock that was put back by more than a minute is believed, once: what was stamped ahead of it
-- is stamped anew.
if now - clock > 60000 then
  now = clock
  changed()
  local latest = digits(now + 120000)
  for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", STZ, "(" .. latest, "+inf")) do
    redis.call("ZADD", STZ, latest, conversation)
  end
  for _, channel in ipairs(redis.call("ZRANGEBYSCORE", UNZ, "(" .. digits(now), "+inf")) do
    local many, code = string.match(redis.call("HGET", UN, channel) or "", "^(%d+) (%d+) %d+$")
    if many then
      redis.call("HSET", UN, channel, many .. " " .. code .. " " .. digits(now))
    end
    redis.call("ZADD", UNZ, digits(now), channel)
  end
end
