-- mark_sent: a segment has its SID. Evidence and no control, so it needs no lease. A conversation
-- that waited to learn it becomes ready.
-- ARGV: clock, conversation, intent's id, segment, SID.
-- Gives 1, or 0 when the intent is gone or this is not its next segment.

local conversation, segment, sid = ARGV[2], tonumber(ARGV[4]), ARGV[5]
local intent, sent = intent_of(conversation, ARGV[3])
if not intent or segment ~= sent or segment >= intent.segments then return 0 end
intent.sent = intent.sent or {}
intent.sent[sent + 1] = sid
local waited = intent.attempt
intent.attempt = nil
intent.at = nil
intent.missed = nil
intent.resent = false
redis.call("RPUSH", AT, digits(now + 600000) .. " " .. sid)
redis.call("LTRIM", AT, -8, -1)
redis.call("PEXPIRE", AT, 600000)
keep_intent(conversation, intent)
if waited and redis.call("ZSCORE", DLY, conversation) then
  local row = row_of(conversation)
  if row and not row.nonce then
    end_delay(conversation, row)
    make_ready(conversation, row)
    keep(conversation, row)
  end
end
return 1
