-- mark_sent: a segment has its SID.
-- ARGV: clock, conversation, intent's id, segment, SID.
-- Gives 1, or 0 when the intent is gone or this is not its next segment.

return note_sent(ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]) and 1 or 0
