-- wake_parked: an agent is well again, so what waits for it in this shard becomes ready.
-- ARGV: clock, channel, revision.
-- Gives how many there were, 200 at most.

local park = ARGV[2] .. " " .. ARGV[3]
if not redis.call("ZSCORE", PRB, park) then return 0 end
local from, to = "[" .. park .. " ", "[" .. park .. " \255"
local waiting = redis.call("ZRANGEBYLEX", PRK, from, to, "LIMIT", 0, 200)
if #waiting < 200 then redis.call("ZREM", PRB, park) end
changed()
for _, place in ipairs(waiting) do
  if not wake(string.sub(place, -32), true) then redis.call("ZREM", PRK, place) end
end
return #waiting
