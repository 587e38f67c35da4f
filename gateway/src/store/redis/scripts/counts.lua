-- counts: what was counted for some channels in this shard. Their hashes follow the shard's keys,
-- two of each: the counters, and those of the rescued.
-- ARGV: clock, an epoch in case the shard has none.
-- Gives {epoch, {field, number, ...} of each hash}.

local epoch = meta[4]
if not epoch then
  epoch = ARGV[2]
  redis.call("HSET", META, "epoch", epoch)
end
local answer = { epoch }
for at = 14, #KEYS do
  local COUNTED = KEYS[at]
  answer[#answer + 1] = redis.call("HGETALL", COUNTED)
end
return answer
