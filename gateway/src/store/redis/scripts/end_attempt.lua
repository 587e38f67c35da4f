-- end_attempt: records that and how the first attempt ended, before any rescue.
-- ARGV: clock, conversation, nonce, evidence or "", the canary revision that failed or none.
-- Gives 1, or 0 for a lease that is somebody else's.

local conversation = ARGV[2]
local row = owned(conversation, ARGV[3])
if not row then return 0 end
local failed_on = optional(ARGV[5]) or row.failed_on
if not row.counted or row.failed_on ~= failed_on then
  count(conversation, row, ARGV[4])
  row.counted = true
  row.failed_on = failed_on
  keep(conversation, row)
end
return 1
