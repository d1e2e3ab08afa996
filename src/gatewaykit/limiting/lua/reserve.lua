-- Takes all charges, or nothing.
-- KEYS: slices, leases, holds of each limit
-- ARGV: now or '', hold, lease in ms; of each limit "amount most held span begins ends"
-- Answer: of each limit "state used resets room", where state is 1 if refused, plus 2 if unseeded; all are joined by
-- blanks. Or a number, the time of now in ms, if it is not within a calendar period that was given.
local hold, lease = ARGV[2], tonumber(ARGV[3])
local limits, taken = {}, true
for i = 1, #KEYS / 3 do
  local limit = load(3 * i - 2, ARGV[3 + i])
  if not limit then return now end
  limit.amount = tonumber(string.match(ARGV[3 + i], '%S+'))
  local refused = used(limit) + limit.amount > limit.most and 1 or 0
  local unseeded = limit.span < 0 and not limit.counts[limit.current] and 2 or 0
  limit.state = refused + unseeded
  taken = taken and limit.state == 0
  limits[i] = limit
end

local answer = {}
for i, limit in ipairs(limits) do
  if taken then
    limit.counts[limit.current] = within((limit.counts[limit.current] or 0) + limit.amount)
    redis.call('HSET', limit.slices, text(limit.current), text(limit.counts[limit.current]))
    if limit.held then
      redis.call('ZADD', limit.leases, text(now + lease), hold)
      redis.call('HSET', limit.holds, hold, text(limit.current) .. ' ' .. text(limit.amount))
    end
    keep(limit, lease)
  end
  answer[i] = limit.state .. ' ' .. standing(limit, taken and 0 or limit.amount)
end
return table.concat(answer, ' ')
