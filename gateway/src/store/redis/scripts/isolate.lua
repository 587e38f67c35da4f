-- isolate: the owner runs no other suspect; should its lease expire now, this head did it.
-- ARGV: clock, conversation, nonce.
-- Gives 1, or 0 for a lease that is somebody else's.

local conversation = ARGV[2]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
if not row.alone then
  row.alone = true
  keep(conversation, row)
end
return 1
