-- claim: leases the next head of the shard.
-- ARGV: clock, nonce, lease ms.
-- Gives what the claim found, as `next` says it.

return claim(ARGV[2], tonumber(ARGV[3]))
