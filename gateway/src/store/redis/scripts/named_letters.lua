-- Dead letters by number and by channel, for the verbs that sum, read, replay or erase them.
-- A letter is named <number, 12 digits> <channel> <class>; DLZ has the names by time. DLX has each
-- twice, to be found by number, #<name>, and by channel, @<channel> <name>.

local DL, DLZ, DLC, DLX = unpack(KEYS, 14, 17)

-- Number, channel and class of a name; none of one that is no name.
local function parts_of(name)
  local number, channel, class = string.match(name, "^(%d+) (%S+) (.*)$")
  return tonumber(number), channel, class
end

-- Both entries of a name; of one that is no name as well, so that there are always two.
local function entries_of(name, channel)
  if not channel then return "?1 " .. name, "?2 " .. name end
  return "#" .. name, "@" .. channel .. " " .. name
end

-- Enters what was buried after this number. Whoever asks does this, so a burial costs nothing more.
local function enter_after(number)
  local from = 0
  while true do
    local page, entries = redis.call("ZREVRANGE", DLZ, from, from + 99), {}
    for _, name in ipairs(page) do
      local of, channel = parts_of(name)
      if of and of <= number then break end
      local one, other = entries_of(name, channel)
      for _, value in ipairs({ 0, one, 0, other }) do entries[#entries + 1] = value end
    end
    if #entries > 0 then redis.call("ZADD", DLX, unpack(entries)) end
    if #entries < 400 then return end
    from = from + 100
  end
end

-- Makes DLX equal to DLZ; gives the number of the last letter. A replica of an older version drops
-- letters, and leaves their entries; a clock that stepped back leaves names out of order.
local function enter_all()
  local numbers = redis.call("HMGET", META, "dead", "entered")
  local last, entered = tonumber(numbers[1]) or 0, tonumber(numbers[2]) or 0
  if entered < last then enter_after(entered) end
  if redis.call("ZCARD", DLX) ~= 2 * redis.call("ZCARD", DLZ) then
    redis.call("DEL", DLX)
    enter_after(-1)
  end
  if entered ~= last then redis.call("HSET", META, "entered", digits(last)) end
  return last
end

-- The names after a number, of one channel or of all, so many at most.
local function names_after(number, channel, most)
  local prefix = channel and "@" .. channel .. " " or "#"
  local from = string.format("[%s%012.0f", prefix, number + 1)
  local entries = redis.call("ZRANGEBYLEX", DLX, from, "(" .. prefix .. ":", "LIMIT", 0, most)
  for at, entry in ipairs(entries) do entries[at] = string.sub(entry, #prefix + 1) end
  return entries
end

-- The row of a letter; an empty one when it cannot be read.
local function row_of_letter(name)
  local good, letter = pcall(cjson.decode, redis.call("HGET", DL, name) or "")
  return good and type(letter) == "table" and letter or {}
end

-- The letter of that number: its name and its channel.
local function letter_of(number)
  local name = names_after(number - 1, nil, 1)[1] or ""
  local found, channel = parts_of(name)
  if found == number then return name, channel end
end

-- Those without text are the first ones by time, and META says how many they are.
local function remove_letter(name, channel)
  local rank = redis.call("ZRANK", DLZ, name)
  local stripped = tonumber(redis.call("HGET", META, "stripped")) or 0
  if rank and rank < stripped then redis.call("HSET", META, "stripped", stripped - 1) end
  redis.call("HDEL", DL, name)
  redis.call("ZREM", DLZ, name)
  redis.call("ZREM", DLX, entries_of(name, channel))
  if redis.call("HINCRBY", DLC, channel, -1) <= 0 then redis.call("HDEL", DLC, channel) end
  changed()
end
