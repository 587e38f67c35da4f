-- bury: moves the head to the dead letters.
-- ARGV: clock, conversation, nonce, class.
-- Gives 1, 0 for a lease that is somebody else's, -1 without room for dead letters.

local row = owned(ARGV[2], ARGV[3])
if not row then return 0 end
return bury(ARGV[2], row, ARGV[4]) and 1 or -1
