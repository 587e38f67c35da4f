-- release: gives the lease back at once; the head keeps its place and the try does not count.
-- ARGV: clock, conversation, nonce.
-- Gives 1, or 0 for a lease that is somebody else's.

local conversation = ARGV[2]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
give_back(conversation, row, false)
redis.call("ZADD", RDY, row.score, conversation)
keep(conversation, row)
return 1
