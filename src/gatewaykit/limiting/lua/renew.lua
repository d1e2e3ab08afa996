-- Lets holds live a lease from now, those whose lease is not over.
-- KEYS: slices, leases, holds of each limit
-- ARGV: now or '', lease in ms; of each limit: how many holds, then these
local lease, at = tonumber(ARGV[2]), 3
for i = 1, #KEYS, 3 do
  local leases = KEYS[i + 1]
  for j = at + 1, at + ARGV[at] do
    if tonumber(redis.call('ZSCORE', leases, ARGV[j]) or 0) > now then
      redis.call('ZADD', leases, text(now + lease), ARGV[j])
    end
  end
  at = at + 1 + ARGV[at]
  for j = i, i + 2 do
    if redis.call('PTTL', KEYS[j]) < lease + 1000 then redis.call('PEXPIRE', KEYS[j], text(lease + 1000)) end
  end
end
return 1
