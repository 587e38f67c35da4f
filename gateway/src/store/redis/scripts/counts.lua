-- counts: what was counted for some channels in this shard. Their hashes follow the shard's keys.
-- ARGV: clock, an epoch in case the shard has none.
-- Gives {epoch, {field, number, ...} of each channel}.

local epoch = meta[4]
if not epoch then
  epoch = ARGV[2]
  redis.call("HSET", META, "epoch", epoch)
end
local answer = { epoch }
for at = 14, #KEYS do
  local EV = KEYS[at]
  answer[#answer + 1] = redis.call("HGETALL", EV)
end
return answer
