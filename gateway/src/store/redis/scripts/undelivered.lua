-- undelivered: which channels had replies that were not delivered in the last 14 days.
-- ARGV: clock. Gives {channel, "<count> <code or 0> <at>", ...}.

local NOW, UN = KEYS[1], KEYS[2]
local seen = tonumber(redis.pcall("GET", NOW)) or 0
-- A clock that was put back by more than a minute is believed; the next report writes it down.
if seen - now <= 60000 then now = math.max(now, seen) end

local rows, answer = redis.call("HGETALL", UN), {}
for at = 1, #rows, 2 do
  local counted, last = string.match(rows[at + 1], "^(%d+ %d+) (%d+)$")
  if last and tonumber(last) + 1209600000 > now then
    answer[#answer + 1] = rows[at]
    answer[#answer + 1] = counted .. " " .. string.format("%.0f", math.min(tonumber(last), now))
  end
end
return answer
