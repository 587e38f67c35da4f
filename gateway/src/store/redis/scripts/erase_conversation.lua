-- erase_conversation: what waits in a conversation goes, with its reply, what is remembered of it
-- and that it was counted. The counters and the customers of each channel follow the other keys.
-- ARGV: clock, conversation.
-- Gives {how many messages waited, 1 when their head was leased, the channel they waited for or
-- ""}.

local RL, AT, ME, MEZ = unpack(KEYS, 14, 17)
local conversation = ARGV[2]

-- The messages of a row that cannot be read may have any number.
local function erase_all_messages()
  local from = conversation .. ":"
  for _, field in ipairs(redis.call("HKEYS", MSG)) do
    if string.sub(field, 1, #from) == from then redis.call("HDEL", MSG, field) end
  end
end

-- Gives the bytes that they had.
local function erase_messages(row)
  local bytes = 0
  for sequence = row.lo, row.hi - 1 do
    local field = conversation .. ":" .. digits(sequence)
    local _, _, envelope = parts(redis.call("HGET", MSG, field))
    bytes = bytes + #envelope
    redis.call("HDEL", MSG, field)
  end
  return row.b or bytes
end

local row, is_damaged = row_of(conversation)
local was_leased = row and row.nonce ~= nil
if row then
  add_load(row.ch, row.lo - row.hi, 0 - erase_messages(row))
  if was_leased then end_lease(conversation, row) else end_delay(conversation, row) end
elseif is_damaged then
  erase_all_messages()
  redis.call("ZREM", LSE, conversation)
  redis.call("ZREM", DLY, conversation)
end
if row or is_damaged then
  redis.call("ZREM", RDY, conversation)
  redis.call("HDEL", CONV, conversation)
  changed()
end
redis.call("HDEL", INT, conversation)
redis.call("HDEL", BOD, conversation)
redis.call("DEL", RL)
redis.call("DEL", AT)
redis.call("HDEL", ME, conversation)
redis.call("ZREM", MEZ, conversation)

-- The servings of the counters are those of the customers: they go together.
for at = 18, #KEYS, 2 do
  local EV, CU = KEYS[at], KEYS[at + 1]
  for _, field in ipairs(redis.call("HKEYS", EV)) do
    local serving = string.match(field, "^(%d+):")
    for _, of in ipairs(serving and { "stable", "canary", "rescued" } or {}) do
      redis.call("HDEL", CU, serving .. ":" .. of .. ":" .. conversation)
    end
  end
end
return { row and row.hi - row.lo or 0, was_leased and 1 or 0, row and row.ch or "" }
