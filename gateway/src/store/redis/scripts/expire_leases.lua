-- expire_leases: ends the leases of a process that died, each as if it had run out.
-- ARGV: clock, the process or "" for all.
-- Gives how many there were.

local holder, ended = ARGV[2], 0
local held = redis.call("HGETALL", OWN)
for at = 1, #held, 2 do
  if string.sub(held[at], 1, #holder) == holder then
    if owned(held[at + 1], held[at]) then
      crash(held[at + 1])
      ended = ended + 1
    else
      -- An entry that leads nowhere.
      redis.call("HDEL", OWN, held[at])
    end
  end
end
return ended
