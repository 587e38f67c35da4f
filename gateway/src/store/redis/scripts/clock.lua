-- A clock that was put back, for every verb that writes. A shard waits a minute for it; one further
-- behind is believed, once: a lease ends no later than its length from now; delays, probes and
-- marks are moved by as much as the clock was.

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
  -- A mark keeps its age: whoever settles it looks no less far back for its message.
  for _, conversation in ipairs(redis.call("HKEYS", INT)) do
    local intent = intent_row(conversation)
    local is_ahead = intent and intent.attempt and intent.at > now
    local was_missed_ahead = intent and intent.attempt and intent.missed and intent.missed > now
    if is_ahead then intent.at = math.max(0, intent.at - ahead) end
    if was_missed_ahead then intent.missed = math.max(0, intent.missed - ahead) end
    if is_ahead or was_missed_ahead then
      redis.call("HSET", INT, conversation, cjson.encode(intent))
    end
  end
end
