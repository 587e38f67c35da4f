-- Counting of evidence, for the verbs that end an attempt. Their next keys are the channel's
-- counters and its customers.

local EV, CU = KEYS[14], KEYS[15]

local function serving_of(field)
  return tonumber(string.match(field, "^%d+") or -1)
end

-- The oldest serving that stays readable beside this one: the third newest.
local function oldest_beside(serving)
  local seen, servings = { [serving] = true }, { serving }
  for _, field in ipairs(redis.call("HKEYS", EV)) do
    local other = serving_of(field)
    if not seen[other] then
      seen[other] = true
      servings[#servings + 1] = other
    end
  end
  table.sort(servings, function(a, b) return a > b end)
  return servings[3] or servings[#servings]
end

local function forget_older(serving)
  for _, field in ipairs(redis.call("HKEYS", EV)) do
    if serving_of(field) < serving then redis.call("HDEL", EV, field) end
  end
  for _, field in ipairs(redis.call("HKEYS", CU)) do
    local of = serving_of(field)
    if of >= 0 and of < serving then redis.call("HDEL", CU, field) end
  end
end

-- Customers decide: each one is counted once for a serving, and once more when it fails him.
local function meet(serving, track, conversation, class)
  if (tonumber(redis.call("HGET", CU, "until")) or 0) <= now then redis.call("DEL", CU) end
  local customer = serving .. ":" .. track .. ":" .. conversation
  local before = redis.call("HGET", CU, customer)
  local fails = class ~= "success"
  redis.call("HSET", CU, customer, (fails or before == "1") and "1" or "0")
  redis.call("HSET", CU, "until", digits(now + 604800000))
  redis.call("PEXPIRE", CU, 604800000) -- 7 days
  if not before then redis.call("HINCRBY", EV, serving .. ":" .. track .. ":asked", 1) end
  if fails and before ~= "1" then
    redis.call("HINCRBY", EV, serving .. ":" .. track .. ":failed", 1)
  end
end

-- Counts "<serving>:<track>:<class>" once for this message; "" counts nothing.
local function count(conversation, row, field)
  if field == "" or row.counted then return end
  row.counted = true
  local serving, track, class = string.match(field, "^(%d+):(%a+):(.*)$")
  if redis.call("HEXISTS", EV, field) == 0 then
    local oldest = oldest_beside(tonumber(serving))
    if tonumber(serving) < oldest then return end
    forget_older(oldest)
  end
  redis.call("HINCRBY", EV, field, 1)
  redis.call("PEXPIRE", EV, 7776000000) -- 90 days
  meet(serving, track, conversation, class)
end
