-- park_head: the head waits for its agent, until its own end or until the agent is well again.
-- ARGV: clock, conversation, nonce, revision, until ms, probe ms.
-- Gives 1, or 0 for a lease that is somebody else's.

local conversation, revision = ARGV[2], ARGV[4]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
give_back(conversation, row, false)
row.park = revision
row.due = now + tonumber(ARGV[5])
redis.call("ZADD", DLY, row.due, conversation)
redis.call("ZADD", PRK, 0, place_of(conversation, row))
redis.call("ZADD", PRB, now + tonumber(ARGV[6]), row.ch .. " " .. revision)
keep(conversation, row)
return 1
