-- replay: dead letters wait again, each at the tail of its conversation, as if they were admitted
-- now. Their dedup keys follow the keys of the letters.
-- ARGV: clock, then of each letter its number, its dedup key, the channel that serves it when
-- nothing of its conversation waits, dedup ms.
-- Gives of each 1 for one that waits, 2 for one whose message waits already, -1 without text, -2
-- without room, 0 when there is no such letter.

-- Whether a message with this key waits in the conversation.
local function is_waiting(conversation, row, dedup_key)
  local fields = {}
  for sequence = row.lo, row.hi - 1 do
    fields[#fields + 1] = conversation .. ":" .. digits(sequence)
  end
  for _, message in ipairs(redis.call("HMGET", MSG, unpack(fields))) do
    local _, key = parts(message or "")
    if key == dedup_key then return true end
  end
  return false
end

-- The row that a message is added to, and whether it was there. What lies around a damaged row is
-- dropped, as by an admission.
local function row_for(conversation, channel, counted)
  local row, is_damaged = row_of(conversation)
  if row then return row, true end
  if is_damaged then
    redis.call("ZREM", LSE, conversation)
    redis.call("ZREM", DLY, conversation)
  end
  redis.call("HDEL", INT, conversation)
  local first = is_damaged and now or 0
  return { ch = channel, lo = first, hi = first, b = 0, tries = 0, crashes = 0,
    counted = counted, lease_ms = 0 }, false
end

local function replay(DD, number, dedup_key, channel, dedup)
  local name, of = letter_of(number)
  local letter = name and row_of_letter(name) or {}
  if letter.key ~= dedup_key then return 0 end
  local conversation, text = letter.conv, letter.text
  if not is_id(conversation) or #conversation ~= 32 or type(text) ~= "string" then return -1 end
  local waiting = row_of(conversation)
  if waiting and is_waiting(conversation, waiting, dedup_key) then
    remove_letter(name, of)
    return 2
  end
  local is_full = waiting and waiting.hi - waiting.lo >= 200
  if is_full or (tonumber(meta[2]) or 0) + #text > 67108864 then return -2 end

  remove_letter(name, of)
  local ends = math.max(tonumber(redis.call("GET", DD)) or 0, now + dedup)
  redis.call("SET", DD, digits(ends), "PX", digits(ends - now))
  local counted = letter.counted == true
  local row, is_known = row_for(conversation, channel, counted)
  local message = string.format("%.0f:%d:", now, #dedup_key) .. dedup_key .. text
  redis.call("HSET", MSG, conversation .. ":" .. digits(row.hi), message)
  add_load(row.ch, 1, #text)
  if is_known and counted then
    row.again = row.again or {}
    row.again[#row.again + 1] = row.hi
  end
  row.hi = row.hi + 1
  row.b = (row.b or 0) + #text
  if not is_known then make_ready(conversation, row) end
  keep(conversation, row)
  return 1
end

enter_all()
local answer = {}
for at = 2, #ARGV, 4 do
  local DD = KEYS[18 + (at - 2) / 4]
  answer[#answer + 1] =
    replay(DD, tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]))
end
return answer
