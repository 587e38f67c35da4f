-- replicas: those with a heartbeat younger than a minute; who lives, the caller says. One that is a
-- minute ahead is of a clock that was put back since.
-- ARGV: clock. Gives {now, replica, seen at, digest, ...}.

local REP, DIG = KEYS[1], KEYS[2]
local answer = { string.format("%.0f", now) }
local since = "(" .. string.format("%.0f", now - 60000)
local ahead = string.format("%.0f", now + 60000)
local heard = redis.call("ZRANGEBYSCORE", REP, since, ahead, "WITHSCORES")
for at = 1, #heard, 2 do
  answer[#answer + 1] = heard[at]
  answer[#answer + 1] = heard[at + 1]
  answer[#answer + 1] = redis.call("HGET", DIG, heard[at]) or ""
end
return answer
