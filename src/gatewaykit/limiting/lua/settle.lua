-- Replaces what is held by what was really used; does nothing where nothing is held any more.
-- KEYS: slices, leases, holds of each limit
-- ARGV: now or '', hold; the amount of each limit, 0 for concurrency
local hold = ARGV[2]
for i = 1, #KEYS / 3 do
  local slices, leases, holds = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local ends = tonumber(redis.call('ZSCORE', leases, hold) or 0)
  local held = ends > now and redis.call('HGET', holds, hold)
  if held then
    local number, amount = string.match(held, '^(%d+) (%d+)$')
    local counted = number and redis.call('HGET', slices, number)
    if counted then
      redis.call('HSET', slices, number, text(within(counted - amount + tonumber(ARGV[2 + i]))))
    end
    redis.call('ZREM', leases, hold)
    redis.call('HDEL', holds, hold)
  end
end
return 1
