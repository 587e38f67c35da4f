-- The time for verbs that belong to no shard. ARGV[1] is a given clock, or "" for the server's.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
