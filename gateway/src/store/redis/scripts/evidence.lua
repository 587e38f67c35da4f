-- Counting of evidence, for the verbs that end an attempt. Their tenth key is the channel's hash.

local EV = KEYS[10]

local function serving_of(field)
  return tonumber(string.match(field, "^%d+"))
end

-- A new serving makes the counts of older ones worthless: nobody asks for them again.
local function forget_older(serving)
  local older = {}
  for _, field in ipairs(redis.call("HKEYS", EV)) do
    if serving_of(field) >= serving then return end
    older[#older + 1] = field
  end
  for _, field in ipairs(older) do
    redis.call("HDEL", EV, field)
  end
end

-- Counts "<serving>:<track>:<class>" once for this message; "" counts nothing.
local function count(row, field)
  if field == "" or row.counted then return end
  row.counted = true
  if redis.call("HEXISTS", EV, field) == 0 then
    forget_older(serving_of(field))
  end
  redis.call("HINCRBY", EV, field, 1)
  redis.call("PEXPIRE", EV, 7776000000) -- 90 days
end
