-- The record of a sent segment, for the verbs that make one.

-- A segment has its SID. Evidence and no control, so it needs no lease. Gives the intent and how
-- many of its segments are sent then, if it stands; and whether this was its next segment, so that
-- the intent must be kept or go, and whether somebody may have waited to learn it.
local function take_sid(conversation, id, segment, sid)
  local intent, sent = intent_of(conversation, id)
  if not intent or segment ~= sent or segment >= intent.segments then
    return intent, sent, false, false
  end
  intent.sent = intent.sent or {}
  intent.sent[sent + 1] = sid
  local was_marked = intent.attempt ~= nil
  intent.attempt = nil
  intent.at = nil
  intent.missed = nil
  intent.resent = false
  if redis.call("RPUSH", AT, digits(now + 600000) .. " " .. sid) > 8 then
    redis.call("LTRIM", AT, -8, -1)
  end
  redis.call("PEXPIRE", AT, 600000)
  return intent, sent + 1, true, was_marked
end

-- Keeps such an intent; a conversation that waited to learn it becomes ready.
local function keep_sid(conversation, intent, was_marked)
  keep_intent(conversation, intent)
  if was_marked and redis.call("ZSCORE", DLY, conversation) then wake(conversation) end
end
