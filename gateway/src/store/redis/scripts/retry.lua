-- retry: puts the head back for a while; its work so far is kept.
-- ARGV: clock, conversation, nonce, delay ms, "1" when the try counts.
-- Gives 1, or 0 for a lease that is somebody else's.

local conversation = ARGV[2]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
give_back(conversation, row, ARGV[5] == "1")
redis.call("ZADD", DLY, now + tonumber(ARGV[4]), conversation)
keep(conversation, row)
return 1
