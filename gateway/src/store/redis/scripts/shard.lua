-- What the verbs of a shard share: its rows, its time, and the moves between its three sets.
-- A name in capitals is a declared key. ARGV[1] is a given clock, or "" for the server's.

local META, CONV, MSG, INT, BOD, RDY, LSE, DLY, VT = unpack(KEYS, 1, 9)
local OWN, LOAD, PRB, PRK = unpack(KEYS, 10, 13)

-- Never before a time this shard has seen: a server that took over may have a slower clock.
local clock = tonumber(ARGV[1])
if not clock then
  local time = redis.call("TIME")
  clock = time[1] * 1000 + math.floor(time[2] / 1000)
end
local meta = redis.call("HMGET", META, "now", "bytes", "messages", "epoch")
local now = math.max(clock, tonumber(meta[1]) or 0)
local is_noted = false

-- Every verb that changes a row comes here, and no other verb does. The time is written once.
local function changed()
  if is_noted then return end
  redis.call("HSET", META, "now", now)
  is_noted = true
end

local function digits(number)
  return string.format("%.0f", number)
end

-- Writes the row of a conversation; gives its text.
local function keep(conversation, row)
  local text = cjson.encode(row)
  redis.call("HSET", CONV, conversation, text)
  changed()
  return text
end

local function is_id(text)
  return type(text) == "string" and string.find(text, "^[!-~]+$") ~= nil
end

local function is_count(number)
  return type(number) == "number" and number >= 0 and number < 2 ^ 53 and number % 1 == 0
end

local function absent_or(value, kind)
  return value == nil or type(value) == kind
end

-- Whether a row has all that it must have, and nothing of another kind. Nobody holds more than 200
-- messages, so a script never runs through more of them.
local function is_whole(row)
  return type(row) == "table" and is_id(row.ch) and is_count(row.lo) and is_count(row.hi)
    and row.lo < row.hi and row.hi - row.lo <= 200 and is_count(row.b or 0) and is_count(row.score)
    and is_count(row.tries) and is_count(row.crashes) and is_count(row.lease_ms)
    and type(row.counted) == "boolean" and absent_or(row.nonce, "string")
    and (row.park == nil or is_id(row.park) and is_count(row.due))
    and (row.failed_on == nil or is_id(row.failed_on)) and absent_or(row.run, "string")
    and absent_or(row.alone, "boolean") and absent_or(row.crashed_alone, "boolean")
    and absent_or(row.again, "table")
end

-- The same of an intent.
local function is_intent(intent)
  if type(intent) ~= "table" or not is_id(intent.id) or not is_count(intent.segments)
    or type(intent.resent) ~= "boolean" or not absent_or(intent.sent, "table") then
    return false
  end
  for _, sid in ipairs(intent.sent or {}) do
    if not is_id(sid) then return false end
  end
  return (intent.attempt == nil or is_id(intent.attempt) and is_count(intent.at))
    and (intent.missed == nil or is_count(intent.missed))
end

-- The row of a conversation; none when it is absent, none and true when it makes no sense: then it
-- is as if it were absent, and nobody else must suffer from it.
local function row_of(conversation)
  local text = redis.call("HGET", CONV, conversation)
  if not text then return nil, false end
  local good, row = pcall(cjson.decode, text)
  if good and is_whole(row) then return row end
  return nil, true
end

-- The intent of a head and its text, in the same way.
local function intent_row(conversation)
  local text = redis.call("HGET", INT, conversation)
  if not text then return nil, false end
  local good, intent = pcall(cjson.decode, text)
  if good and is_intent(intent) then return intent, text end
  return nil, true
end

-- The row of a conversation that this nonce owns. An expired lease that nobody took over counts.
local function owned(conversation, nonce)
  local row = row_of(conversation)
  if not row or row.nonce ~= nonce then return nil end
  if not redis.call("ZSCORE", LSE, conversation) then return nil end
  return row
end

local function end_lease(conversation, row)
  redis.call("ZREM", LSE, conversation)
  redis.call("HDEL", OWN, row.nonce)
  row.nonce = nil
end

-- Ends the work of an owner who lives: no crash, and no try that does not count.
local function give_back(conversation, row, counted)
  end_lease(conversation, row)
  row.alone = nil
  if not counted then row.tries = math.max(0, row.tries - 1) end
end

-- Ends the lease of an owner who did not end it: a crash of its head. An entry whose conversation
-- is not where it says is dropped: it must not stop the shard for everybody.
local function crash(conversation)
  local row = row_of(conversation)
  if not row or not row.nonce then
    redis.call("ZREM", LSE, conversation)
    changed()
    return
  end
  row.crashes = row.crashes + 1
  row.crashed_alone = row.alone
  row.alone = nil
  end_lease(conversation, row)
  redis.call("ZADD", RDY, row.score, conversation)
  keep(conversation, row)
end

-- Where a conversation stands among those that wait for its agent.
local function place_of(conversation, row)
  return string.format("%s %s %013.0f %s", row.ch, row.park, row.due, conversation)
end

-- Takes a delayed conversation out of the set, and out of those that wait for its agent.
local function end_delay(conversation, row)
  redis.call("ZREM", DLY, conversation)
  if row.park then
    redis.call("ZREM", PRK, place_of(conversation, row))
    row.park = nil
    row.due = nil
  end
end

-- Start-time fair queueing: a channel's turns lie one apart, and none starts before the clock. One
-- that begins at once takes the clock with it.
local function book_turn(row, begins)
  local times = redis.call("HMGET", VT, "clock", row.ch)
  local clock = tonumber(times[1]) or 0
  row.score = math.max(clock, tonumber(times[2]) or 0)
  if begins and row.score > clock then
    redis.call("HSET", VT, row.ch, row.score + 1, "clock", row.score)
  else
    redis.call("HSET", VT, row.ch, row.score + 1)
  end
end

local function make_ready(conversation, row)
  book_turn(row)
  redis.call("ZADD", RDY, row.score, conversation)
end

-- The clock is where the last turn began.
local function begin_turn(start)
  local clock = tonumber(redis.call("HGET", VT, "clock")) or 0
  if start > clock then redis.call("HSET", VT, "clock", start) end
end

-- Makes a delayed conversation ready, or only one that waits for an agent; false when it is none.
local function wake(conversation, is_parked)
  local row = row_of(conversation)
  if not row or row.nonce or is_parked and not row.park then return false end
  end_delay(conversation, row)
  make_ready(conversation, row)
  keep(conversation, row)
  return true
end

-- Leases a conversation that waits in no set any more and whose turn has begun; gives its row's
-- text. The try is counted before any work, so that a death cannot loop for ever.
local function lease(conversation, row, nonce, lease_ms)
  redis.call("ZADD", LSE, now + lease_ms, conversation)
  redis.call("HSET", OWN, nonce, conversation)
  row.tries = row.tries + 1
  row.nonce = nonce
  row.lease_ms = lease_ms
  return keep(conversation, row)
end

-- What a conversation remembers of its last reply, unless the time of that is over.
local function in_force(memo)
  local ends, kept = string.match(memo or "", "^(%d+) (.*)$")
  return ends and tonumber(ends) > now and kept
end

-- Counts what a channel has waiting; its two fields go with its last message. A row changes with
-- it, so the time is written here as well.
local function add_load(channel, messages, bytes)
  meta[2], meta[3] = (tonumber(meta[2]) or 0) + bytes, (tonumber(meta[3]) or 0) + messages
  redis.call("HSET", META, "now", now, "bytes", meta[2], "messages", meta[3])
  is_noted = true
  if redis.call("HINCRBY", LOAD, channel .. " m", messages) <= 0 then
    redis.call("HDEL", LOAD, channel .. " m", channel .. " b")
  else
    redis.call("HINCRBY", LOAD, channel .. " b", bytes)
  end
end

-- A message row is <admitted_at>:<bytes of the dedup key>:<dedup key><envelope>. Anything else has
-- no time.
local function parts(message)
  local at, length, from = string.match(message or "", "^(%d+):(%d+):()")
  if not at then return nil, "", "" end
  length = tonumber(length)
  if from + length - 1 > #message then return nil, "", "" end
  local envelope = string.sub(message, from + length)
  return tonumber(at), string.sub(message, from, from + length - 1), envelope
end

local function message_of(conversation, row)
  return redis.call("HGET", MSG, conversation .. ":" .. digits(row.lo))
end

-- A message that was a dead letter may have had the end of its first attempt; of those behind the
-- head the row keeps the sequences.
local function begin_again(rest, again)
  for _, sequence in ipairs(again) do
    if sequence == rest.lo then
      rest.counted = true
    elseif is_count(sequence) and sequence > rest.lo then
      rest.again = rest.again or {}
      rest.again[#rest.again + 1] = sequence
    end
  end
end

-- Takes the head off; the next message, if there is one, starts from nothing. With the last one
-- goes all that the row counted, whatever of it could not be read; layout 1 counted nothing in a
-- row.
local function pop(conversation, row)
  local is_last = row.lo + 1 >= row.hi
  local bytes = is_last and row.b
  if not bytes then
    local _, _, envelope = parts(message_of(conversation, row))
    bytes = #envelope
  end
  redis.call("HDEL", MSG, conversation .. ":" .. digits(row.lo))
  redis.call("HDEL", INT, conversation)
  redis.call("HDEL", BOD, conversation)
  -- Not -bytes: a number that is nothing would have a sign.
  add_load(row.ch, -1, 0 - bytes)
  if row.nonce then end_lease(conversation, row) end
  if is_last then
    redis.call("HDEL", CONV, conversation)
    changed()
    return
  end
  local rest = { ch = row.ch, lo = row.lo + 1, hi = row.hi, b = math.max(0, (row.b or 0) - bytes),
    tries = 0, crashes = 0, counted = false, lease_ms = row.lease_ms }
  if row.again then begin_again(rest, row.again) end
  make_ready(conversation, rest)
  keep(conversation, rest)
end

-- An optional argument: "" is none, "=text" is text.
local function optional(text)
  if text == "" then return nil end
  return string.sub(text, 2)
end
