-- The next head of the shard, for the verbs that claim it. Their next key is what conversations
-- remember.

local ME = KEYS[14]

-- When the first lease, the first delay and the first probe end. Mostly nothing is delayed.
local function first_ends()
  local leased, delayed, probed = {}, {}, {}
  local sets = redis.call("EXISTS", LSE, DLY, PRB)
  if sets > 0 then leased = redis.call("ZRANGE", LSE, 0, 0, "WITHSCORES") end
  if sets > #leased / 2 then
    delayed = redis.call("ZRANGE", DLY, 0, 0, "WITHSCORES")
    probed = redis.call("ZRANGE", PRB, 0, 0, "WITHSCORES")
  end
  return tonumber(leased[2] or math.huge), tonumber(delayed[2] or math.huge),
    tonumber(probed[2] or math.huge)
end

-- An entry whose conversation is not where it says is dropped: it must not stop the shard for
-- everybody. Gives when the first lease ends then, and the first of anything.
local function take_back()
  local leased, delayed, probed = first_ends()
  local first = math.min(leased, delayed, probed)
  if first > now then return leased, first end
  -- Eight of each a call: a burst of ends must not make one claim long.
  for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", LSE, "-inf", now, "LIMIT", 0, 8)) do
    crash(conversation)
  end
  for _, conversation in ipairs(redis.call("ZRANGEBYSCORE", DLY, "-inf", now, "LIMIT", 0, 8)) do
    if not wake(conversation) then
      redis.call("ZREM", DLY, conversation)
      changed()
    end
  end
  -- Of all that wait for one agent a single conversation is let try.
  for _, park in ipairs(redis.call("ZRANGEBYSCORE", PRB, "-inf", now, "LIMIT", 0, 8)) do
    changed()
    local from, to = "[" .. park .. " ", "[" .. park .. " \255"
    local first = redis.call("ZRANGEBYLEX", PRK, from, to, "LIMIT", 0, 1)[1]
    if not first then
      redis.call("ZREM", PRB, park)
    elseif wake(string.sub(first, -32), true) then
      redis.call("ZADD", PRB, now + 60000, park)
    else
      redis.call("ZREM", PRK, first)
    end
  end
  leased, delayed, probed = first_ends()
  return leased, math.min(leased, delayed, probed)
end

-- The reply of a head and its body, if it has one. One that cannot be read is empty: whether it was
-- sent nobody can tell any more, so the owner of the head gives it up.
local function reply_of(conversation)
  local intent, text = intent_row(conversation)
  if text == false then return false, false end
  local body = redis.call("HGET", BOD, conversation)
  if not intent or not body then return "", "" end
  return text, body
end

local function head(conversation, text, message)
  local intent, body = reply_of(conversation)
  local memo = in_force(redis.call("HGET", ME, conversation))
  return { digits(now), conversation, text, message, intent, body, memo }
end

-- Leases the next head. Gives {now, conversation, its row, message, intent or nil, body or nil,
-- memo or nil}, or {now} and, with anything leased, delayed or to be probed, the milliseconds until
-- the first of those ends.
local function claim(nonce, lease_ms)
  local leased, ends = take_back()
  -- The answer to this very claim may have been lost.
  local mine = leased < math.huge and redis.call("HGET", OWN, nonce)
  local row = mine and row_of(mine)
  local message = row and row.nonce == nonce and message_of(mine, row)
  if parts(message) then return head(mine, cjson.encode(row), message) end

  while true do
    local first = redis.call("ZRANGE", RDY, 0, 0, "WITHSCORES")
    local conversation = first[1]
    if not conversation then break end
    redis.call("ZREM", RDY, conversation)
    row = row_of(conversation)
    message = row and message_of(conversation, row)
    local admitted_at, key, envelope = parts(message)
    if not row or row.nonce then
      changed()
    elseif not admitted_at then
      -- A row without its message: the next one is the head.
      pop(conversation, row)
    else
      if admitted_at > now then
        -- Admitted under a clock that was put back since: it begins to wait now.
        message = string.format("%.0f:%d:", now, #key) .. key .. envelope
        redis.call("HSET", MSG, conversation .. ":" .. digits(row.lo), message)
      end
      begin_turn(tonumber(first[2]))
      local text = lease(conversation, row, nonce, lease_ms)
      return head(conversation, text, message)
    end
  end

  if ends == math.huge then return { digits(now) } end
  return { digits(now), digits(math.max(0, ends - now)) }
end
