-- claim: leases the next head of the shard.
-- ARGV: clock, nonce, lease ms.
-- Gives {now, conversation, its row, message, intent or nil, body or nil, memo or nil}, or {now} and,
-- with anything leased, delayed or to be probed, the milliseconds until the first of those ends.

local ME = KEYS[14]
local nonce, lease_ms = ARGV[2], tonumber(ARGV[3])

-- Eight of each a call: a burst of ends must not make one claim long.
for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", LSE, "-inf", now, "LIMIT", 0, 8)) do
  local row = row_of(conversation)
  if row and row.nonce then
    row.crashes = row.crashes + 1
    row.crashed_alone = row.alone
    row.alone = nil
    end_lease(conversation, row)
    redis.call("ZADD", RDY, row.score, conversation)
    keep(conversation, row)
  else
    redis.call("ZREM", LSE, conversation)
    changed()
  end
end
for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", DLY, "-inf", now, "LIMIT", 0, 8)) do
  local row = row_of(conversation)
  if row then
    end_delay(conversation, row)
    make_ready(conversation, row)
    keep(conversation, row)
  else
    redis.call("ZREM", DLY, conversation)
    changed()
  end
end
-- Of all that wait for one agent a single conversation is let try.
for _, park in ipairs(redis.call("ZRANGEBYSCORE", PRB, "-inf", now, "LIMIT", 0, 8)) do
  changed()
  local first = redis.call("ZRANGEBYLEX", PRK, "[" .. park .. " ", "[" .. park .. " \255", "LIMIT", 0, 1)[1]
  local conversation = first and string.sub(first, -32)
  local row = conversation and row_of(conversation)
  if row and row.park then
    redis.call("ZADD", PRB, now + 60000, park)
    end_delay(conversation, row)
    make_ready(conversation, row)
    keep(conversation, row)
  elseif first then
    redis.call("ZREM", PRK, first)
  else
    redis.call("ZREM", PRB, park)
  end
end

local function head(conversation, row, message)
  local memo = redis.call("HGET", ME, conversation)
  if memo then
    local ends, kept = string.match(memo, "^(%d+) (.*)$")
    memo = tonumber(ends) > now and kept
  end
  return { digits(now), conversation, cjson.encode(row), message,
    redis.call("HGET", INT, conversation), redis.call("HGET", BOD, conversation), memo }
end

-- The answer to this very claim may have been lost.
local mine = redis.call("HGET", OWN, nonce)
local row = mine and row_of(mine)
local message = row and row.nonce == nonce and message_of(mine, row)
if message then return head(mine, row, message) end

-- An entry without its row, or a row without its message, must not stop the shard for everybody.
while true do
  local first = redis.call("ZRANGE", RDY, 0, 0, "WITHSCORES")
  local conversation = first[1]
  if not conversation then break end
  row = row_of(conversation)
  message = row and message_of(conversation, row)
  redis.call("ZREM", RDY, conversation)
  if message then
    local clock = tonumber(redis.call("HGET", VT, "clock") or 0)
    redis.call("HSET", VT, "clock", math.max(clock, tonumber(first[2])))
    redis.call("ZADD", LSE, now + lease_ms, conversation)
    redis.call("HSET", OWN, nonce, conversation)
    -- The try is counted before any work, so that a death cannot loop for ever.
    row.tries = row.tries + 1
    row.nonce = nonce
    row.lease_ms = lease_ms
    keep(conversation, row)
    return head(conversation, row, message)
  end
  redis.call("HINCRBY", META, "damaged", 1)
  if row then pop(conversation, row) end
  changed()
end

local ends = math.huge
for _, first in ipairs({ redis.call("ZRANGE", LSE, 0, 0, "WITHSCORES"),
  redis.call("ZRANGE", DLY, 0, 0, "WITHSCORES"), redis.call("ZRANGE", PRB, 0, 0, "WITHSCORES") }) do
  ends = math.min(ends, tonumber(first[2] or math.huge))
end
if ends == math.huge then return { digits(now) } end
return { digits(now), digits(math.max(0, ends - now)) }
