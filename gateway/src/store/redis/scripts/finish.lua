-- finish: the last segment has its SID, so the head is done, and the next head of the shard is
-- claimed.
-- ARGV: clock, conversation, nonce, intent's id, segment, SID, the nonce of a claim or "", the ms
-- of its lease.
-- Gives {1, or 0 for a head that is somebody else's or not all sent; what the claim found, if any}.

local conversation, id = ARGV[2], ARGV[4]
local intent, sent, is_new, was_marked =
  take_sid(conversation, id, tonumber(ARGV[5]), ARGV[6])
local row = owned(conversation, ARGV[3])
local is_done = row and intent and sent >= intent.segments
if is_done then
  pop(conversation, row)
elseif is_new then
  keep_sid(conversation, intent, was_marked)
end
return { is_done and 1 or 0, ARGV[7] ~= "" and claim(ARGV[7], tonumber(ARGV[8])) }
