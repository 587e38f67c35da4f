-- note_missed: a listing did not have the post that stands marked; the first one is remembered.
-- ARGV: clock, conversation, nonce, intent's id, segment, attempt.
-- Gives 1, or 0 for a lease that is somebody else's or an intent that is gone.

local conversation = ARGV[2]
if not owned(conversation, ARGV[3]) then return 0 end
local intent, sent = intent_of(conversation, ARGV[4])
if not intent then return 0 end
if intent.attempt == ARGV[6] and tonumber(ARGV[5]) == sent and not intent.missed then
  intent.missed = now
  keep_intent(conversation, intent)
end
return 1
