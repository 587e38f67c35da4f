-- acknowledged: the routes that a replica obeys, of some channels or of all.
-- ARGV: clock, replica, "all" or "named", then the names.
-- Gives {channel, "<serving> <hash>", ...}, with " cut" behind a hash whose canary is cut off
-- there; nothing when its last heartbeat is a minute old, or that far ahead: then it is of a clock
-- that was put back since.

local REP, ACK = KEYS[1], KEYS[2]
local seen = redis.call("ZSCORE", REP, ARGV[2])
if not seen or tonumber(seen) + 60000 <= now or tonumber(seen) > now + 60000 then return {} end
if ARGV[3] == "all" then return redis.call("HGETALL", ACK) end
local answer = {}
for at = 4, #ARGV do
  local found = redis.call("HGET", ACK, ARGV[at])
  if found then
    answer[#answer + 1] = ARGV[at]
    answer[#answer + 1] = found
  end
end
return answer
