-- undelivered: which channels had replies that were not delivered in the last 14 days.
-- ARGV: clock. Gives {channel, "<count> <code or 0> <at>", ...}.

local NOW, UN = KEYS[1], KEYS[2]
now = math.max(now, tonumber(redis.call("GET", NOW) or 0))

local rows, answer = redis.call("HGETALL", UN), {}
for at = 1, #rows, 2 do
  local last = string.match(rows[at + 1], "^%d+ %d+ (%d+)$")
  if last and tonumber(last) + 1209600000 > now then
    answer[#answer + 1] = rows[at]
    answer[#answer + 1] = rows[at + 1]
  end
end
return answer
