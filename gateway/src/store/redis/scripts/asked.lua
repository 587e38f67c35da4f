-- asked: the operator asks for the counts. Keeps when, and how long after the time before.
-- ARGV: clock. Gives 1.

local ASKED = KEYS[1]
local before = tonumber(redis.call("HGET", ASKED, "at")) or now
redis.call("HSET", ASKED, "at", string.format("%.0f", now), "gap",
  string.format("%.0f", math.min(math.max(0, now - before), 3600000)))
return 1
