-- replicas: those with a heartbeat younger than ten seconds. One that is a minute ahead is of a
-- clock that was put back since.
-- ARGV: clock. Gives {now, replica, seen at, digest, ...}.

local REP, DIG = KEYS[1], KEYS[2]
local answer = { string.format("%.0f", now) }
local since = "(" .. string.format("%.0f", now - 10000)
local ahead = string.format("%.0f", now + 60000)
local live = redis.call("ZRANGEBYSCORE", REP, since, ahead, "WITHSCORES")
for at = 1, #live, 2 do
  answer[#answer + 1] = live[at]
  answer[#answer + 1] = live[at + 1]
  answer[#answer + 1] = redis.call("HGET", DIG, live[at]) or ""
end
return answer
