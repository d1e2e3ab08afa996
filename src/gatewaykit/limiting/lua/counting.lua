-- What all scripts begin with. A limit is three keys, of which one that is not held (requests) needs the first alone:
--   slices: number of a slice -> what was used in it; concurrency has one slice, 0
--   leases: hold -> when its lease ends      holds: hold -> "number amount"
-- It is told by "most held span begins ends": its amount, 1 or 0, and the length of the window in ms; this is 0 for
-- concurrency and -1 for a calendar period, which is one slice whose number is its first second, `begins`, and which
-- `ends` at a time in ms, or never (-1). All times are Redis' own, in ms, unless ARGV[1] gives one. Lua's numbers are
-- exact to 2^53, where all amounts stop.
local MOST = 2 ^ 53
local SLICES = 12
local SWEEP = 500
local KEPT_MOST = 400 * 86400 * 1000

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

local function within(number)
  return math.max(0, math.min(MOST, number))
end

-- In how many ms slice `number` counts no more; nil if it always will.
local function leaves(limit, number)
  if limit.span > 0 then
    return math.ceil((number + SLICES + 1) * limit.span / SLICES) - now
  end
  return limit.ends >= 0 and limit.ends - now or nil
end

-- Takes out holds whose lease is over, some hundreds at most.
local function sweep(limit)
  local ended = redis.call('ZRANGEBYSCORE', limit.leases, '-inf', text(now), 'LIMIT', 0, SWEEP)
  if #ended == 0 then return end
  local changed = {}
  for _, held in ipairs(redis.call('HMGET', limit.holds, unpack(ended))) do
    local number, amount = string.match(held or '', '^(%d+) (%d+)$')
    number = tonumber(number)
    if number and limit.counts[number] then
      limit.counts[number] = within(limit.counts[number] - tonumber(amount))
      changed[number] = true
    end
  end
  redis.call('ZREM', limit.leases, unpack(ended))
  redis.call('HDEL', limit.holds, unpack(ended))
  for number in pairs(changed) do
    redis.call('HSET', limit.slices, text(number), text(limit.counts[number]))
  end
end

-- The limit told by `terms`, whose keys begin at KEYS[at]; nil if the period that was given is not that of now.
local function load(at, terms)
  local most, held, span, begins, ends = string.match(terms, '(%S+) (%S+) (%S+) (%S+) (%S+)$')
  local limit = {slices = KEYS[at], leases = KEYS[at + 1], holds = KEYS[at + 2]}
  limit.most, limit.held, limit.span, limit.ends = tonumber(most), held == '1', tonumber(span), tonumber(ends)
  limit.current = tonumber(begins)
  local oldest = limit.current
  if limit.span > 0 then
    limit.current = math.floor(now * SLICES / limit.span)
    oldest = limit.current - SLICES
  elseif limit.span < 0 and (now < limit.current * 1000 or (limit.ends >= 0 and now >= limit.ends)) then
    return nil
  end
  limit.counts = {}
  local stored = redis.call('HGETALL', limit.slices)
  for i = 1, #stored, 2 do
    local number = tonumber(stored[i])
    if number < oldest then
      redis.call('HDEL', limit.slices, stored[i])
    else
      limit.counts[number] = tonumber(stored[i + 1])
    end
  end
  if limit.held then sweep(limit) end
  return limit
end

local function used(limit)
  local sum = 0
  for _, amount in pairs(limit.counts) do sum = sum + amount end
  return within(sum)
end

-- In how many ms `asked` may fit: 0 for now, -1 for never.
local function room_in(limit, asked)
  local excess = used(limit) + asked - limit.most
  if excess <= 0 then return 0 end
  if limit.span == 0 then return asked <= limit.most and 1000 or -1 end
  local numbers = {}
  for number in pairs(limit.counts) do numbers[#numbers + 1] = number end
  table.sort(numbers)
  for _, number in ipairs(numbers) do
    excess = excess - limit.counts[number]
    if excess <= 0 then return leaves(limit, number) or -1 end
  end
  return -1
end

-- "used resets room": what is used, in how many ms nothing of it counts any more (-1: never), and room_in.
local function standing(limit, asked)
  local resets, last = 0, -1
  for number, amount in pairs(limit.counts) do
    if amount > 0 then last = math.max(last, number) end
  end
  if limit.span ~= 0 and last >= 0 then resets = leaves(limit, last) or -1 end
  return text(used(limit)) .. ' ' .. text(resets) .. ' ' .. text(room_in(limit, asked))
end

-- All three keys of a limit live as long as anything in them counts, and longer than any lease.
local function keep(limit, lease)
  local last = limit.span ~= 0 and (leaves(limit, limit.current) or KEPT_MOST) or 0
  local kept = text(math.min(KEPT_MOST, math.max(last, lease) + 1000))
  redis.call('PEXPIRE', limit.slices, kept)
  if not limit.held then return end
  redis.call('PEXPIRE', limit.leases, kept)
  redis.call('PEXPIRE', limit.holds, kept)
end

