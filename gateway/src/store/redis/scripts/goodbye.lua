-- goodbye: a replica works no more; nobody waits for it.
-- ARGV: clock, replica. Gives 1.

local REP, DIG, ACK = KEYS[1], KEYS[2], KEYS[3]
redis.call("ZREM", REP, ARGV[2])
redis.call("HDEL", DIG, ARGV[2])
redis.call("DEL", ACK)
return 1
