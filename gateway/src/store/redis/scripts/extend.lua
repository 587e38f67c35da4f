-- extend: renews leases, all of one shard.
-- ARGV: clock, lease ms, then conversation and nonce of each lease.
-- Gives the conversations whose lease is lost.

local lease_ms = tonumber(ARGV[2])
local lost = {}
for at = 3, #ARGV, 2 do
  local conversation = ARGV[at]
  local row = owned(conversation, ARGV[at + 1])
  if row then
    redis.call("ZADD", LSE, now + lease_ms, conversation)
    changed()
    if row.lease_ms ~= lease_ms then
      row.lease_ms = lease_ms
      keep(conversation, row)
    end
  else
    lost[#lost + 1] = conversation
  end
end
return lost
