-- keep_run: keeps the agent's run with the head, or forgets it.
-- ARGV: clock, conversation, nonce, run or none.
-- Gives 1, or 0 for a lease that is somebody else's.

local conversation = ARGV[2]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
local run = optional(ARGV[4])
if row.run ~= run then
  row.run = run
  keep(conversation, row)
end
return 1
