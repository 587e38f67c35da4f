-- The record of a sent segment, for the verbs that make one.

-- A segment has its SID. Evidence and no control, so it needs no lease; a conversation that waited
-- to learn it becomes ready. False when the intent is gone or this is not its next segment.
local function note_sent(conversation, id, segment, sid)
  local intent, sent = intent_of(conversation, id)
  if not intent or segment ~= sent or segment >= intent.segments then return false end
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
  return true
end
