-- What the verbs of a shard share: its rows, its time, and the moves between its three sets.
-- A name in capitals is a declared key. ARGV[1] is a given clock, or "" for the server's.

local META, CONV, MSG, INT, BOD, RDY, LSE, DLY, VT = unpack(KEYS, 1, 9)

-- Never before a time this shard has seen: a server that took over may have a slower clock.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = math.max(now, tonumber(redis.call("HGET", META, "now") or 0))

-- Every verb that changes a row ends here, and no other verb does.
local function changed()
  redis.call("HSET", META, "now", now)
end

local function keep(conversation, row)
  redis.call("HSET", CONV, conversation, cjson.encode(row))
  changed()
end

-- The row of a conversation that this nonce owns. An expired lease that nobody took over counts.
local function owned(conversation, nonce)
  local text = redis.call("HGET", CONV, conversation)
  if not text then return nil end
  local row = cjson.decode(text)
  if row.nonce ~= nonce then return nil end
  if not redis.call("ZSCORE", LSE, conversation) then return nil end
  return row
end

local function end_lease(conversation, row)
  redis.call("ZREM", LSE, conversation)
  row.nonce = nil
end

-- Start-time fair queueing: a channel's turns lie one apart, and none starts before the clock.
local function make_ready(conversation, row)
  local clock = tonumber(redis.call("HGET", VT, "clock") or 0)
  local finish = tonumber(redis.call("HGET", VT, row.ch) or 0)
  row.score = math.max(clock, finish)
  redis.call("HSET", VT, row.ch, row.score + 1)
  redis.call("ZADD", RDY, row.score, conversation)
end

-- A message row is <admitted_at>:<bytes of the dedup key>:<dedup key><envelope>.
local function parts(message)
  local at, length, from = string.match(message, "^(%d+):(%d+):()")
  length = tonumber(length)
  return tonumber(at), string.sub(message, from, from + length - 1), string.sub(message, from + length)
end

-- Takes the head off; the next message, if there is one, starts from nothing.
local function pop(conversation, row)
  local field = conversation .. ":" .. string.format("%.0f", row.lo)
  local _, _, envelope = parts(redis.call("HGET", MSG, field))
  redis.call("HDEL", MSG, field)
  redis.call("HDEL", INT, conversation)
  redis.call("HDEL", BOD, conversation)
  redis.call("HINCRBY", META, "messages", -1)
  redis.call("HINCRBY", META, "bytes", -#envelope)
  end_lease(conversation, row)
  local rest = { ch = row.ch, lo = row.lo + 1, hi = row.hi, tries = 0, crashes = 0, counted = false,
    lease_ms = row.lease_ms }
  if rest.lo == rest.hi then
    redis.call("HDEL", CONV, conversation)
    changed()
  else
    make_ready(conversation, rest)
    keep(conversation, rest)
  end
end

-- An optional argument: "" is none, "=text" is text.
local function optional(text)
  if text == "" then return nil end
  return string.sub(text, 2)
end
