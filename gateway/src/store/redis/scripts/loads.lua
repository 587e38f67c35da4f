-- loads: what each channel has waiting in this shard, and its dead letters.
-- ARGV: clock. Gives {"<channel> m" or "<channel> b" and a number, ...}, {channel, number, ...}.

local DLC = KEYS[14]
return { redis.call("HGETALL", LOAD), redis.call("HGETALL", DLC) }
