-- What all scripts begin with. KEYS: leases, holds, and the state of each subject concerned. What is stored is MessagePack:
--   leases: hold -> when its lease ends     holds: hold -> what it took, of each subject {key, name, number, amount, name, ...}
--   state: name of a limit -> {number, used, before, earlier}; and `ends`, until when it is kept
-- `number` is that of the slice which was counted last, `used` what is in all that count, `before` what is in all but that one;
-- `earlier` has these, oldest first, "number amount" in turn, packed apart: they are looked at when a slice ends.
-- A limit is told as {name, most, span, begins, ends, held}. Its window is `span` ms; 0 is for concurrency, which has one slice,
-- 0, and -1 for a calendar period, which is one slice whose number is its first second, `begins`, and which `ends` at a time in
-- ms, or never (-1). All times are Redis' own, in ms, unless ARGV[1] gives one. Lua's numbers are exact to 2^53, where all
-- amounts stop. What a hold took may be of subjects that are not in KEYS; all keys of a gateway are in one slot.
local NUMBER, USED, BEFORE, EARLIER = 1, 2, 3, 4
local NAME, MOST, SPAN, BEGINS, ENDS, HELD = 1, 2, 3, 4, 5, 6
local LARGEST = 2 ^ 53
local SLICES = 12
local SWEEP = 500
local KEPT_LEAST = 60 * 1000
local KEPT_MOST = 400 * 86400 * 1000
local NONE = cmsgpack.pack({})

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local states = {}

local function text(number)
  return string.format('%.0f', number)
end

local function within(number)
  return math.max(0, math.min(LARGEST, number))
end

-- The table that was stored; an empty one if it is none.
local function read(stored)
  local is_read, value = pcall(cmsgpack.unpack, stored)
  return is_read and type(value) == 'table' and value or {}
end

local function state_of(key)
  local state = states[key]
  if not state then
    local stored = redis.call('GET', key)
    state = stored and read(stored) or {}
    state.ends = state.ends or 0
    states[key] = state
  end
  return state
end

-- Stores a state, to live for so many ms more at least.
local function save(key, kept)
  local state = states[key]
  state.ends = math.max(state.ends, now + kept)
  redis.call('SET', key, cmsgpack.pack(state), 'PX', text(state.ends - now))
end

-- Leases and holds live as long as what was taken may count.
local function outlive(kept)
  if redis.call('PTTL', KEYS[1]) < kept then
    redis.call('PEXPIRE', KEYS[1], text(kept))
    redis.call('PEXPIRE', KEYS[2], text(kept))
  end
end

-- In how many ms slice `number` counts no more; nil if it always will.
local function leaves(limit, number)
  if limit[SPAN] > 0 then
    return math.ceil((number + SLICES + 1) * limit[SPAN] / SLICES) - now
  end
  return limit[ENDS] >= 0 and limit[ENDS] - now or nil
end

-- Adds to what was counted in slice `number`, if that still counts.
local function change(entry, number, by)
  if entry[NUMBER] == number then
    entry[USED] = entry[BEFORE] + within(entry[USED] - entry[BEFORE] + by)
    return
  end
  local earlier = cmsgpack.unpack(entry[EARLIER])
  for i = 1, #earlier, 2 do
    if earlier[i] == number then
      local changed = within(earlier[i + 1] + by)
      entry[BEFORE] = entry[BEFORE] + changed - earlier[i + 1]
      entry[USED] = entry[USED] + changed - earlier[i + 1]
      earlier[i + 1] = changed
      entry[EARLIER] = cmsgpack.pack(earlier)
    end
  end
end

-- Replaces what a hold took by `real`, amounts by key and name; by nothing where they are missing.
local function release(taken, real)
  for _, part in ipairs(taken) do
    local key, found = part[1], false
    local state, amounts = state_of(key), real[key] or {}
    for i = 2, #part, 3 do
      local entry = state[part[i]]
      if entry then
        change(entry, part[i + 1], (amounts[part[i]] or 0) - part[i + 2])
        found = true
      end
    end
    if found then save(key, KEPT_LEAST) end
  end
end

-- Takes out holds whose lease is over, some hundreds at most.
local function sweep()
  local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, SWEEP)
  if #ended == 0 then return end
  local holds = redis.call('HMGET', KEYS[2], unpack(ended))
  redis.call('ZREM', KEYS[1], unpack(ended))
  redis.call('HDEL', KEYS[2], unpack(ended))
  for _, taken in ipairs(holds) do
    if taken then release(read(taken), {}) end
  end
end

-- What is counted of a limit, in the slice of now, and whether its period has begun to be counted; nil if the period that was
-- given is not that of now.
local function turned(state, limit)
  local name, span, number = limit[NAME], limit[SPAN], limit[BEGINS]
  local entry = state[name]
  if span > 0 then
    number = math.floor(now * SLICES / span)
  elseif span < 0 then
    if now < number * 1000 or (limit[ENDS] >= 0 and now >= limit[ENDS]) then return nil end
    if entry and entry[NUMBER] ~= number then entry = nil end
  end
  if not entry then
    entry = {number, 0, 0, NONE}
    state[name] = entry
    return entry, span >= 0
  end
  if entry[NUMBER] < number then
    local slices, earlier, before = cmsgpack.unpack(entry[EARLIER]), {}, 0
    slices[#slices + 1], slices[#slices + 2] = entry[NUMBER], entry[USED] - entry[BEFORE]
    for i = 1, #slices, 2 do
      if slices[i] >= number - SLICES and slices[i + 1] > 0 then
        earlier[#earlier + 1], earlier[#earlier + 2] = slices[i], slices[i + 1]
        before = before + slices[i + 1]
      end
    end
    entry = {number, before, before, cmsgpack.pack(earlier)}
    state[name] = entry
  end
  return entry, true
end

-- In how many ms nothing of what is used counts any more (-1: never).
local function resets(limit, entry)
  if limit[SPAN] == 0 then return 0 end
  if entry[USED] > entry[BEFORE] then return leaves(limit, entry[NUMBER]) or -1 end
  if entry[USED] == 0 then return 0 end
  local earlier = cmsgpack.unpack(entry[EARLIER])
  for i = #earlier - 1, 1, -2 do
    if earlier[i + 1] > 0 then return leaves(limit, earlier[i]) or -1 end
  end
  return 0
end

-- In how many ms `asked` may fit: 0 for now, -1 for never.
local function room_in(limit, entry, asked)
  local excess = within(entry[USED]) + asked - limit[MOST]
  if excess <= 0 then return 0 end
  if limit[SPAN] == 0 then return asked <= limit[MOST] and 1000 or -1 end
  local earlier = cmsgpack.unpack(entry[EARLIER])
  for i = 1, #earlier, 2 do
    excess = excess - earlier[i + 1]
    if excess <= 0 then return leaves(limit, earlier[i]) or -1 end
  end
  excess = excess - (entry[USED] - entry[BEFORE])
  return excess <= 0 and leaves(limit, entry[NUMBER]) or -1
end

