-- Replaces what is held by what was really used; does nothing where nothing is held any more.
-- ARGV: now or '', hold, the real amounts of each subject, by name of the limit
local hold = ARGV[2]
if tonumber(redis.call('ZSCORE', KEYS[1], hold) or 0) > now then
  local taken = redis.call('HGET', KEYS[2], hold)
  redis.call('ZREM', KEYS[1], hold)
  redis.call('HDEL', KEYS[2], hold)
  local real = {}
  for i, amounts in ipairs(cmsgpack.unpack(ARGV[3])) do real[KEYS[i + 2]] = amounts end
  if taken then release(read(taken), real) end
end
return 1
