-- heartbeat: a replica announces itself and the routes that it obeys.
-- ARGV: clock, replica, digest, the digest it announced last or "" for a first and complete
-- account, the store's key, number of acknowledgements, then of each the channel and "<serving>
-- <hash>", with " cut" behind it while its canary is cut off here, then the channels whose route is
-- gone.
-- Gives four numbers. First 1, or 0 when the last account is not what stands here: then nothing
-- changed, and the replica gives a complete one; or -1 when the store has another key. Then how
-- long ago the counts were asked for, -1 for never, and how long after the time before. Then how
-- many replicas live.

local REP, DIG, ACK, KEY, LAYOUT = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ASKED = KEYS[6]
local replica, digest, last = ARGV[2], ARGV[3], ARGV[4]

-- A server that was emptied under a fleet must not draw a key of its own: one customer would be
-- two.
local key = redis.call("GET", KEY)
if key and key ~= ARGV[5] then return { -1, -1, 0, 0 } end
if not key then redis.call("SET", KEY, ARGV[5]) end
redis.call("SET", LAYOUT, "2", "NX")

if last == "" then
  redis.call("DEL", ACK)
elseif redis.call("HGET", DIG, replica) ~= last or redis.call("EXISTS", ACK) == 0 then
  return { 0, -1, 0, 0 }
end

-- Never empty, so that an account that was lost shows.
redis.call("HSET", ACK, "", "")
local names = 7 + 2 * tonumber(ARGV[6])
for at = 7, names - 1, 2 do
  redis.call("HSET", ACK, ARGV[at], ARGV[at + 1])
end
for at = names, #ARGV do
  redis.call("HDEL", ACK, ARGV[at])
end
redis.call("PEXPIRE", ACK, 60000)
redis.call("HSET", DIG, replica, digest)
redis.call("ZADD", REP, now, replica)

-- What is a minute ahead is of a clock that was put back since.
local ahead = string.format("%.0f", now + 60000)
for _, range in ipairs({ { "-inf", now - 60000 }, { "(" .. ahead, "+inf" } }) do
  for _, gone in ipairs(redis.call("ZRANGEBYSCORE", REP, range[1], range[2])) do
    redis.call("ZREM", REP, gone)
    redis.call("HDEL", DIG, gone)
  end
end
local asked = tonumber(redis.call("HGET", ASKED, "at")) or math.huge
local age = asked <= now + 60000 and math.max(0, now - asked) or -1
local live = redis.call("ZCOUNT", REP, "(" .. string.format("%.0f", now - 10000), ahead)
return { 1, age, tonumber(redis.call("HGET", ASKED, "gap")) or 0, live }
