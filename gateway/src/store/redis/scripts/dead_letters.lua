-- dead_letters: of each channel with any, the number, when the oldest and the newest ended, and the
-- class of the newest. Pages from both ends, only until every channel was met.
-- ARGV: clock. Gives {channel, count, oldest, newest, class, ...}.

local DLZ, DLC = KEYS[15], KEYS[16]

local function first_of_each(command)
  local found, missing, from = {}, redis.call("HLEN", DLC), 0
  while missing > 0 do
    local page = redis.call(command, DLZ, from, from + 99, "WITHSCORES")
    if #page == 0 then return found end
    for at = 1, #page, 2 do
      local channel, class = string.match(page[at], "^%d+ (%S+) (.*)$")
      if channel and not found[channel] then
        found[channel] = { page[at + 1], class }
        missing = missing - 1
      end
    end
    from = from + 100
  end
  return found
end

local oldest, newest = first_of_each("ZRANGE"), first_of_each("ZREVRANGE")
local answer = {}
for channel, first in pairs(oldest) do
  local count, last = redis.call("HGET", DLC, channel), newest[channel]
  for _, value in ipairs({ channel, count, first[1], last[1], last[2] }) do
    answer[#answer + 1] = value
  end
end
return answer
