-- commit_reply: makes the reply durable, once for a head.
-- ARGV: clock, conversation, nonce, intent's id, its segments, its body, outcome or "", memo or
-- "", the attempt that posts its first segment or none.
-- Gives {"done"}, {"stale"}, or {"exists", intent, body}.

local conversation, id = ARGV[2], ARGV[4]
local row = owned(conversation, ARGV[3])
if not row then return { "stale" } end

local standing, text = intent_row(conversation)
if standing then
  if standing.id == id then return { "done" } end
  return { "exists", text, redis.call("HGET", BOD, conversation) }
end
-- One that cannot be read may have been sent: whoever claims its head next gives that up.
if text then return { "stale" } end

local intent = { id = id, segments = tonumber(ARGV[5]), resent = false }
if intent.segments > 0 then intent.attempt = optional(ARGV[9]) end
if intent.attempt then intent.at = now end
redis.call("HSET", INT, conversation, cjson.encode(intent))
redis.call("HSET", BOD, conversation, ARGV[6])
redis.call("ZADD", LSE, now + row.lease_ms, conversation)
memorise(conversation, ARGV[8])
local run, counted = row.run, row.counted
row.run = nil
conclude(conversation, row, ARGV[7])
if run or row.counted ~= counted then keep(conversation, row) end
changed()
return { "done" }
