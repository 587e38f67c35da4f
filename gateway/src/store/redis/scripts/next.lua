-- The next head of the shard, for the verbs that claim it. Their next keys are the dead letters, then
-- what conversations remember.

local ME = KEYS[17]

-- An entry whose conversation is not where it says is dropped: it must not stop the shard for
-- everybody.
local function take_back()
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
      note_damage()
      redis.call("ZREM", LSE, conversation)
    end
  end
  for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", DLY, "-inf", now, "LIMIT", 0, 8)) do
    local row = row_of(conversation)
    if row and not row.nonce then
      end_delay(conversation, row)
      make_ready(conversation, row)
      keep(conversation, row)
    else
      note_damage()
      redis.call("ZREM", DLY, conversation)
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
      note_damage()
      redis.call("ZREM", PRK, first)
    else
      redis.call("ZREM", PRB, park)
    end
  end
end

-- The reply of a head and its body, if it has one; nothing at all when they cannot be read.
local function reply_of(conversation)
  local intent, text = intent_row(conversation)
  if not intent then return text == false and {} or nil end
  local body = redis.call("HGET", BOD, conversation)
  return body and { text, body } or nil
end

local function head(conversation, row, message, reply)
  return { digits(now), conversation, cjson.encode(row), message, reply[1] or false,
    reply[2] or false, in_force(redis.call("HGET", ME, conversation)) }
end

-- Leases the next head. Gives {now, conversation, its row, message, intent or nil, body or nil, memo or
-- nil}, or {now} and, with anything leased, delayed or to be probed, the milliseconds until the first
-- of those ends.
local function claim(nonce, lease_ms)
  take_back()
  -- The answer to this very claim may have been lost.
  local mine = redis.call("HGET", OWN, nonce)
  local row = mine and row_of(mine)
  local message = row and row.nonce == nonce and message_of(mine, row)
  local reply = parts(message) and reply_of(mine)
  if reply then return head(mine, row, message, reply) end

  while true do
    local first = redis.call("ZRANGE", RDY, 0, 0, "WITHSCORES")
    local conversation = first[1]
    if not conversation then break end
    redis.call("ZREM", RDY, conversation)
    row = row_of(conversation)
    message = row and message_of(conversation, row)
    reply = row and reply_of(conversation)
    if not row or row.nonce then
      note_damage()
    elseif not parts(message) then
      -- A row without its message: the next one is the head.
      note_damage()
      pop(conversation, row)
    elseif not reply then
      -- Whether that reply was sent nobody can tell any more, so it is neither sent nor made again.
      note_damage()
      if not bury(conversation, row, "unreadable") then
        redis.call("ZADD", DLY, now + 60000, conversation)
        keep(conversation, row)
      end
    else
      lease(conversation, row, tonumber(first[2]), nonce, lease_ms)
      return head(conversation, row, message, reply)
    end
  end

  local ends = math.huge
  for _, first in ipairs({ redis.call("ZRANGE", LSE, 0, 0, "WITHSCORES"),
    redis.call("ZRANGE", DLY, 0, 0, "WITHSCORES"), redis.call("ZRANGE", PRB, 0, 0, "WITHSCORES") }) do
    ends = math.min(ends, tonumber(first[2] or math.huge))
  end
  if ends == math.huge then return { digits(now) } end
  return { digits(now), digits(math.max(0, ends - now)) }
end
