-- Burial, for the verbs that give a head up. Their next keys are the dead letters.

local DL, DLZ, DLC = KEYS[14], KEYS[15], KEYS[16]

-- Moves the head to the dead letters; false without room for one, and then nothing changed.
local function bury(conversation, row, class)
  if redis.call("HLEN", DL) >= 10000 then return false end
  local admitted_at, dedup_key, envelope = parts(message_of(conversation, row))
  local letter = { ch = row.ch, conv = conversation, key = dedup_key, class = class, at = now,
    from = admitted_at, text = envelope, counted = row.counted }
  -- Digits enough to sort as text, then what a summary wants to know without reading the letter.
  local id = string.format("%012.0f", redis.call("HINCRBY", META, "dead", 1))
  local name = id .. " " .. row.ch .. " " .. class
  redis.call("HSET", DL, name, cjson.encode(letter))
  redis.call("ZADD", DLZ, now, name)
  redis.call("HINCRBY", DLC, row.ch, 1)
  pop(conversation, row)
  return true
end
