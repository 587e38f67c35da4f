-- admit: duplicate, then limit, then capacity, then append. Nothing is written before the append.
-- ARGV: clock, conversation, channel, dedup key, envelope, limit, window ms, dedup ms, an epoch,
-- the nonce of a lease that is wanted at once or "", its ms.
-- Gives 0 queued, -1 duplicate, -2 full, or the milliseconds until the limit lets one more in; and
-- {now, memo or nil} when it is leased: then all else that a claim tells is what was just admitted.

local DD, RL, ME = KEYS[14], KEYS[15], KEYS[16]
local conversation, channel, dedup_key, envelope = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local limit, window, dedup = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local remembered = redis.call("GET", DD)
if remembered and (tonumber(remembered) or 0) > now then return -1 end

local stamps = redis.call("LRANGE", RL, 0, -1)
local stale = 0
while stamps[stale + 1] and (tonumber(stamps[stale + 1]) or 0) + window <= now do
  stale = stale + 1
end
-- The last ones may be of a clock that was put back since.
local reached = #stamps
while reached > 0 and (tonumber(stamps[reached]) or 0) > now do
  reached = reached - 1
end
if reached - stale >= limit then
  -- With this stamp gone, one less than the limit is left. A limit of 0 has none to wait for.
  local first = stamps[reached - limit + 1]
  return first and (tonumber(first) or now) + window - now or window
end

local known, is_damaged = row_of(conversation)
-- A damaged row is begun anew, above every sequence that its messages may have.
local first = is_damaged and now or 0
local row = known or { ch = channel, lo = first, hi = first, b = 0, tries = 0, crashes = 0,
  counted = false, lease_ms = 0 }
local bytes = tonumber(meta[2]) or 0
if row.hi - row.lo >= 200 or bytes + #envelope > 67108864 then return -2 end

if is_damaged then
  redis.call("ZREM", LSE, conversation)
  redis.call("ZREM", DLY, conversation)
end
-- The reply to a head that was lost answers nothing else.
if not known then redis.call("HDEL", INT, conversation) end

-- The key's own end is on the server's clock and only frees memory.
redis.call("SET", DD, digits(now + dedup), "PX", dedup)
if stale > 0 then redis.call("LPOP", RL, stale) end
if reached < #stamps then redis.call("RPOP", RL, #stamps - reached) end
redis.call("RPUSH", RL, now)
redis.call("PEXPIRE", RL, window)

local head = string.format("%.0f:%d:", now, #dedup_key)
redis.call("HSET", MSG, conversation .. ":" .. digits(row.hi), head .. dedup_key .. envelope)
if not meta[4] then redis.call("HSET", META, "epoch", ARGV[9]) end
-- A channel made anew with the same sender inherits, and is counted for, what waits; what waited
-- for an agent of the former one waits no more.
local parked = false
if row.ch ~= channel then
  parked = row.park ~= nil
  if parked then end_delay(conversation, row) end
  add_load(row.ch, row.lo - row.hi, 0 - (row.b or 0))
  add_load(channel, row.hi - row.lo, row.b or 0)
  row.ch = channel
end
add_load(channel, 1, #envelope)
row.hi = row.hi + 1
row.b = (row.b or 0) + #envelope
-- Alone in its conversation and in what is ready, it may be worked on at once.
if not known and not is_damaged and ARGV[10] ~= "" and redis.call("EXISTS", RDY) == 0 then
  book_turn(row, true)
  lease(conversation, row, ARGV[10], tonumber(ARGV[11]))
  return { digits(now), in_force(redis.call("HGET", ME, conversation)) }
end
if not known or parked then make_ready(conversation, row) end
keep(conversation, row)
return 0
