-- deliveries: what Twilio reports of segments. The greatest of each counts, and only a change is
-- written.
-- A delivery is a number, rank * 1000000 + error code; those of ranks 6 and 7 are undelivered.
-- ARGV: clock, then of each report: conversation, channel, "<intent>.<segment>", number.
-- Gives 1 for each report that changed its segment, else 0.

local function is_undelivered(number)
  return number ~= nil and number >= 6000000 and number < 8000000
end

-- The last eight segments of a conversation, oldest first; none when their time is over or the row
-- makes no sense.
local function segments_of(conversation)
  local segments, ends = {}, redis.call("ZSCORE", STZ, conversation)
  if not ends or tonumber(ends) <= now then return segments end
  local row = redis.call("HGET", ST, conversation) or ""
  for name, number in string.gmatch(row, "(%S+)=(%d+)") do
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
    redis.call("ZADD", UNZ, digits(now), channel)
    redis.call("PEXPIRE", UN, 1209600000)
    redis.call("PEXPIRE", UNZ, 1209600000)
  elseif was and many > 1 then
    redis.call("HSET", UN, channel, digits(many - 1) .. " " .. code .. " " .. at)
  elseif was and many == 1 then
    redis.call("HDEL", UN, channel)
    redis.call("ZREM", UNZ, channel)
  end
end

local rows, is_changed, answer = {}, {}, {}
for at = 2, #ARGV, 4 do
  local conversation, channel, name, number = unpack(ARGV, at, at + 3)
  number = tonumber(number)
  rows[conversation] = rows[conversation] or segments_of(conversation)
  local is_news, before = take(rows[conversation], name, number)
  if is_news then
    is_changed[conversation] = true
    count(channel, is_undelivered(before), number)
  end
  answer[#answer + 1] = is_news and 1 or 0
end

for conversation in pairs(is_changed) do
  local words = {}
  for at, segment in ipairs(rows[conversation]) do
    words[at] = segment.name .. "=" .. digits(segment.number)
  end
  redis.call("HSET", ST, conversation, table.concat(words, " "))
  redis.call("ZADD", STZ, digits(now + 120000), conversation)
end
if next(is_changed) then
  changed()
  redis.call("PEXPIRE", ST, 180000)
  redis.call("PEXPIRE", STZ, 180000)
end
forget()
return answer
