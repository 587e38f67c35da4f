-- A clock that was put back, for every verb that writes. A shard waits a minute for it; one further
-- behind is believed, once: a lease ends no later than its length from now; delays and probes are
-- moved by as much as the clock was; of no mark is the age known then.

local ahead = now - clock
if ahead > 60000 then
  now = clock
  changed()
  local function due(at)
    return math.max(now, tonumber(at) - ahead)
  end
  local leases = redis.call("ZRANGE", LSE, 0, -1, "WITHSCORES")
  for at = 1, #leases, 2 do
    local row = row_of(leases[at])
    -- An entry that leads nowhere ends now: whoever claims next drops it.
    local latest = now + (row and row.nonce and row.lease_ms or 0)
    if tonumber(leases[at + 1]) > latest then redis.call("ZADD", LSE, latest, leases[at]) end
  end
  local delays = redis.call("ZRANGEBYSCORE", DLY, "(" .. digits(now), "+inf", "WITHSCORES")
  for at = 1, #delays, 2 do
    local row = row_of(delays[at])
    redis.call("ZADD", DLY, due(delays[at + 1]), delays[at])
    if row and row.park then
      redis.call("ZREM", PRK, place_of(delays[at], row))
      row.due = due(row.due)
      redis.call("ZADD", PRK, 0, place_of(delays[at], row))
      keep(delays[at], row)
    end
  end
  local probes = redis.call("ZRANGEBYSCORE", PRB, "(" .. digits(now), "+inf", "WITHSCORES")
  for at = 1, #probes, 2 do
    redis.call("ZADD", PRB, due(probes[at + 1]), probes[at])
  end
  -- Nobody knows how much time went by since the last change, nor how long the clock was wrong: a
  -- mark that looks young may be old. None of them limits how far back its message is looked for.
  local long_ago = math.max(0, now - 86400000)
  for _, conversation in ipairs(redis.call("HKEYS", INT)) do
    local intent = intent_row(conversation)
    if intent and intent.attempt and (intent.at > long_ago or intent.missed) then
      intent.at, intent.missed = math.min(intent.at, long_ago), nil
      redis.call("HSET", INT, conversation, cjson.encode(intent))
    end
  end
end
