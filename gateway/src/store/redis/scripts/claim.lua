-- claim: leases the next head of the shard.
-- ARGV: clock, nonce, lease ms.
-- Gives {now, conversation, its row, message, intent or nil, body or nil}, or {now} and, with
-- anything leased or delayed, the milliseconds until the first of those ends.

local nonce, lease_ms = ARGV[2], tonumber(ARGV[3])

-- Eight of each a call: a burst of ends must not make one claim long.
for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", LSE, "-inf", now, "LIMIT", 0, 8)) do
  local row = cjson.decode(redis.call("HGET", CONV, conversation))
  row.crashes = row.crashes + 1
  end_lease(conversation, row)
  redis.call("ZADD", RDY, row.score, conversation)
  keep(conversation, row)
end
for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", DLY, "-inf", now, "LIMIT", 0, 8)) do
  local row = cjson.decode(redis.call("HGET", CONV, conversation))
  redis.call("ZREM", DLY, conversation)
  make_ready(conversation, row)
  keep(conversation, row)
end

local function head(conversation, text, row)
  local message = redis.call("HGET", MSG, conversation .. ":" .. string.format("%.0f", row.lo))
  return { string.format("%.0f", now), conversation, text, message,
    redis.call("HGET", INT, conversation), redis.call("HGET", BOD, conversation) }
end

-- The answer to this very claim may have been lost. A shard has few leases: they are looked through.
local leased = redis.call("ZRANGE", LSE, 0, -1)
for _, conversation in ipairs(leased) do
  local text = redis.call("HGET", CONV, conversation)
  if string.find(text, nonce, 1, true) then
    local row = cjson.decode(text)
    if row.nonce == nonce then return head(conversation, text, row) end
  end
end

local first = redis.call("ZRANGE", RDY, 0, 0, "WITHSCORES")
if not first[1] then
  local lease = redis.call("ZRANGE", LSE, 0, 0, "WITHSCORES")[2]
  local delay = redis.call("ZRANGE", DLY, 0, 0, "WITHSCORES")[2]
  if not lease and not delay then return { string.format("%.0f", now) } end
  local ends = math.min(tonumber(lease or math.huge), tonumber(delay or math.huge))
  return { string.format("%.0f", now), string.format("%.0f", math.max(0, ends - now)) }
end

local conversation = first[1]
local row = cjson.decode(redis.call("HGET", CONV, conversation))
local clock = tonumber(redis.call("HGET", VT, "clock") or 0)
redis.call("HSET", VT, "clock", math.max(clock, tonumber(first[2])))
redis.call("ZREM", RDY, conversation)
redis.call("ZADD", LSE, now + lease_ms, conversation)
-- The try is counted before any work, so that a death cannot loop for ever.
row.tries = row.tries + 1
row.nonce = nonce
row.lease_ms = lease_ms
keep(conversation, row)
return head(conversation, cjson.encode(row), row)
