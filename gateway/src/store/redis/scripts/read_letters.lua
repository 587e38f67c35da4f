-- read_letters: a page of the dead letters after a number. Looks at 500 of them at most.
-- ARGV: clock, number, last number or "", limit, channel or "", class or "", conversation or "",
-- "1" when texts are wanted.
-- Gives {the shard's last number, where the next page begins or "", {number, channel, class, time,
-- conversation, key, time of admission, "1" when it counted, bytes, text}, ...}; what is not known
-- is "", and so are a text and its bytes that are gone.

local most, limit = tonumber(ARGV[3]) or math.huge, tonumber(ARGV[4])
local class_wanted, conversation_wanted = ARGV[6], ARGV[7]

local function is(wanted, value)
  return wanted == "" or wanted == value
end

local function known(value, kind)
  return type(value) == kind and value or nil
end

-- What is told of a letter, if its conversation is wanted.
local function tell(name, number, channel, class)
  local letter = row_of_letter(name)
  local conversation = known(letter.conv, "string") or ""
  if not is(conversation_wanted, conversation) then return nil end
  local from, text = known(letter.from, "number"), known(letter.text, "string")
  return { digits(number), channel, class, redis.call("ZSCORE", DLZ, name) or "0", conversation,
    known(letter.key, "string") or "", from and digits(from) or "",
    letter.counted == true and "1" or "0", text and digits(#text) or "",
    ARGV[8] == "1" and text or "" }
end

local answer, found = { digits(enter_all()), "" }, 0
local names = names_after(tonumber(ARGV[2]), ARGV[5] ~= "" and ARGV[5] or nil, 500)
for at, name in ipairs(names) do
  local number, channel, class = parts_of(name)
  if number > most then break end
  local letter = is(class_wanted, class) and tell(name, number, channel, class)
  if letter then
    found = found + 1
    answer[found + 2] = letter
  end
  if found >= limit or at == 500 then
    answer[2] = digits(number)
    break
  end
end
return answer
