-- Lets holds live a lease from now, those whose lease is not over, and with them the states of the subjects.
-- ARGV: now or '', lease in ms, the holds
local lease = tonumber(ARGV[2])
for i = 3, #ARGV do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0) > now then
    redis.call('ZADD', KEYS[1], text(now + lease), ARGV[i])
  end
end
for i = 3, #KEYS do
  if state_of(KEYS[i]).ends > 0 then save(KEYS[i], lease + 1000) end
end
outlive(lease + 1000)
return 1
