-- dead_letters: of each channel with any, the number, when the oldest and the newest ended, and the
-- class of the newest.
-- ARGV: clock. Gives {channel, count, oldest, newest, class, ...}.

enter_all()
local answer, counts = {}, redis.call("HGETALL", DLC)
for at = 1, #counts, 2 do
  local channel = counts[at]
  local first = names_after(-1, channel, 1)[1]
  local from, to = "(@" .. channel .. " :", "[@" .. channel .. " "
  local last = redis.call("ZREVRANGEBYLEX", DLX, from, to, "LIMIT", 0, 1)[1]
  if first and last then
    last = string.sub(last, #channel + 3)
    local _, _, class = parts_of(last)
    local ends = redis.call("ZMSCORE", DLZ, first, last)
    for _, value in ipairs({ channel, counts[at + 1], ends[1] or "0", ends[2] or "0", class }) do
      answer[#answer + 1] = value
    end
  end
end
return answer
