-- Dead letters in the order of time, for the verbs that bury or drop them. Their next keys are the
-- letters, by id and by time.

local DL, DLZ = KEYS[14], KEYS[15]

-- A letter that is ahead is of a clock that was put back since: it ended now, the oldest first and
-- a hundred a call. Its place among the others stays, which is by id where the time is one.
local function bring_back_letters()
  local ahead = redis.call("ZRANGEBYSCORE", DLZ, "(" .. digits(now), "+inf", "LIMIT", 0, 100)
  for _, name in ipairs(ahead) do
    changed()
    redis.call("ZADD", DLZ, now, name)
    local good, letter = pcall(cjson.decode, redis.call("HGET", DL, name) or "")
    if good and type(letter) == "table" then
      letter.at = now
      redis.call("HSET", DL, name, cjson.encode(letter))
    end
  end
end
