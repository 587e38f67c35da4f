-- reserve: books sends of a sender at a steady pace (GCRA), in microseconds.
-- ARGV: clock, sends per second, how many, eight at most.
-- Gives {"after", ms} when booked, {"busy", ms} when that would be too far ahead.

local TAT = KEYS[1]
local interval = math.floor(1000000 / tonumber(ARGV[2]))
local burst, horizon = 8 * interval, 2000000
local micros = now * 1000

-- Brought near now and kept so: a clock that stepped back blocks nothing for long.
local tat = tonumber(redis.call("GET", TAT)) or 0
tat = math.min(math.max(tat, micros), micros + horizon + burst)
local booked = tat + tonumber(ARGV[3]) * interval
local wait = booked - burst - micros
if wait > horizon then
  redis.call("SET", TAT, string.format("%.0f", tat), "PX", 60000)
  return { "busy", math.ceil((wait - horizon) / 1000) }
end
redis.call("SET", TAT, string.format("%.0f", booked), "PX", 60000)
return { "after", math.max(0, math.ceil(wait / 1000)) }
