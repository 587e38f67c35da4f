-- unmark: takes an attempt's own mark back; its POST provably never happened.
-- ARGV: clock, conversation, nonce, intent's id, segment, attempt.
-- Gives 1, or 0 for a lease that is somebody else's or an intent that is gone.

local conversation = ARGV[2]
if not owned(conversation, ARGV[3]) then return 0 end
local intent, sent = intent_of(conversation, ARGV[4])
if not intent then return 0 end
if intent.attempt == ARGV[6] and tonumber(ARGV[5]) == sent then
  intent.attempt = nil
  intent.at = nil
  intent.missed = nil
  keep_intent(conversation, intent)
end
return 1
