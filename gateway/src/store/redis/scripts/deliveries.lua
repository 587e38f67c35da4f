-- deliveries: what Twilio reports of segments. The greatest of each counts, and only a change is
-- written.
-- A delivery is a number, rank * 1000000 + error code; those of ranks 6 and 7 are undelivered.
-- KEYS: the time of the last change; undelivered by channel, "<count> <code> <at>", and by time;
-- then a row of each conversation, "<until> <intent>.<segment>=<number> ..." of its last eight.
-- ARGV: clock, then of each report: which of those rows, channel, "<intent>.<segment>", number.
-- Gives 1 for each report that changed its segment, else 0.

local NOW, UN, UNZ = KEYS[1], KEYS[2], KEYS[3]
now = math.max(now, tonumber(redis.call("GET", NOW) or 0))

local function digits(number)
  return string.format("%.0f", number)
end

local function is_undelivered(number)
  return number ~= nil and number >= 6000000 and number < 8000000
end

-- The segments of a row, oldest first; none when their time is over or the row makes no sense.
local function segments_of(text)
  local ends, rest = string.match(text or "", "^(%d+)(.*)$")
  local segments = {}
  if not ends or tonumber(ends) <= now then return segments end
  for name, number in string.gmatch(rest, " (%S+)=(%d+)") do
    segments[#segments + 1] = { name = name, number = tonumber(number) }
  end
  return segments
end

-- Whether the report changes its segment, and what was known of it.
local function take(segments, name, number)
  for _, segment in ipairs(segments) do
    if segment.name == name then
      local before = segment.number
      segment.number = math.max(before, number)
      return number > before, before
    end
  end
  if #segments >= 8 then table.remove(segments, 1) end
  segments[#segments + 1] = { name = name, number = number }
  return true
end

-- Counts a segment that the customer does not get; not any more when he has got it after all.
local function count(channel, was, number)
  local row = redis.call("HGET", UN, channel) or ""
  local many, code, at = string.match(row, "^(%d+) (%d+) (%d+)$")
  many = at and tonumber(at) + 1209600000 > now and tonumber(many) or 0 -- 14 days
  if is_undelivered(number) then
    many = math.max(0, was and many - 1 or many) + 1
    redis.call("HSET", UN, channel, digits(many) .. " " .. number % 1000000 .. " " .. digits(now))
    redis.call("ZADD", UNZ, now, channel)
    redis.call("PEXPIRE", UN, 1209600000)
    redis.call("PEXPIRE", UNZ, 1209600000)
  elseif was and many > 1 then
    redis.call("HSET", UN, channel, digits(many - 1) .. " " .. code .. " " .. at)
  elseif was and many == 1 then
    redis.call("HDEL", UN, channel)
    redis.call("ZREM", UNZ, channel)
  end
end

local rows, changed, answer = {}, {}, {}
for at = 2, #ARGV, 4 do
  local place, channel, name, number = unpack(ARGV, at, at + 3)
  place, number = 3 + tonumber(place), tonumber(number)
  local ROW = KEYS[place]
  rows[place] = rows[place] or segments_of(redis.call("GET", ROW))
  local is_news, before = take(rows[place], name, number)
  if is_news then
    changed[place] = true
    count(channel, is_undelivered(before), number)
  end
  answer[#answer + 1] = is_news and 1 or 0
end

for place in pairs(changed) do
  local text = digits(now + 120000)
  for _, segment in ipairs(rows[place]) do
    text = text .. " " .. segment.name .. "=" .. digits(segment.number)
  end
  local ROW = KEYS[place]
  redis.call("SET", ROW, text, "PX", 120000)
end
if not next(changed) then return answer end
redis.call("SET", NOW, digits(now), "PX", 1209600000)
local over = digits(now - 1209600000)
for _, channel in ipairs(redis.call("ZRANGEBYSCORE", UNZ, "-inf", over, "LIMIT", 0, 16)) do
  redis.call("ZREM", UNZ, channel)
  redis.call("HDEL", UN, channel)
end
return answer
