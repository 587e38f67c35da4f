-- complete: the head's work is done.
-- ARGV: clock, conversation, nonce, outcome or "".
-- Gives 1, or 0 for a lease that is somebody else's.

local conversation = ARGV[2]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
if redis.call("HEXISTS", INT, conversation) == 0 then memorise(conversation, "") end
conclude(conversation, row, ARGV[4])
pop(conversation, row)
return 1
