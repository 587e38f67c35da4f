-- mark_sent: a segment has its SID.
-- ARGV: clock, conversation, intent's id, segment, SID.
-- Gives 1, or 0 when the intent is gone or this is not its next segment.

local conversation = ARGV[2]
local intent, _, is_new, was_marked =
  take_sid(conversation, ARGV[3], tonumber(ARGV[4]), ARGV[5])
if is_new then keep_sid(conversation, intent, was_marked) end
return is_new and 1 or 0
