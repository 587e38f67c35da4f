-- bury: moves the head to the dead letters.
-- ARGV: clock, conversation, nonce, class.
-- Gives 1, 0 for a lease that is somebody else's, -1 without room for dead letters.

local DLC = KEYS[16]
local conversation, class = ARGV[2], ARGV[4]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
if redis.call("HLEN", DL) >= 10000 then return -1 end
bring_back_letters()
-- No letter ends before one with a smaller id, also while some are ahead of the time.
local last = redis.call("ZREVRANGE", DLZ, 0, 0, "WITHSCORES")
local ends = math.max(now, tonumber(last[2]) or now)
local admitted_at, dedup_key, envelope = parts(message_of(conversation, row))
local letter = { ch = row.ch, conv = conversation, key = dedup_key, class = class, at = ends,
  from = admitted_at, text = envelope, counted = row.counted }
-- Digits enough to sort as text, then what a summary wants to know without reading the letter.
local id = string.format("%012.0f", redis.call("HINCRBY", META, "dead", 1))
local name = id .. " " .. row.ch .. " " .. class
redis.call("HSET", DL, name, cjson.encode(letter))
redis.call("ZADD", DLZ, digits(ends), name)
redis.call("HINCRBY", DLC, row.ch, 1)
pop(conversation, row)
return 1
