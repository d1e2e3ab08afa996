-- Takes all charges, or nothing.
-- ARGV: now or '', hold, lease in ms, the amounts, and the limits of each subject
-- Answer: of each limit state, used, resets and room, where state is 1 if refused, plus 2 if unseeded. Or a number, the time of
-- now in ms, if it is not within a calendar period that was given.
local hold, lease = ARGV[2], tonumber(ARGV[3])
local amounts, subjects = cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
local entries, codes, taken, at = {}, {}, true, 0
sweep()
for s, limits in ipairs(subjects) do
  local state = state_of(KEYS[s + 2])
  for _, limit in ipairs(limits) do
    at = at + 1
    local entry, seeded = turned(state, limit)
    if not entry then return now end
    local code = within(entry[USED]) + amounts[at] > limit[MOST] and 1 or 0
    if not seeded then code = code + 2 end
    taken = taken and code == 0
    entries[at], codes[at] = entry, code
  end
end

local held, longest = {}, 0
if taken then
  at = 0
  for s, limits in ipairs(subjects) do
    local part, kept = {KEYS[s + 2]}, lease
    for _, limit in ipairs(limits) do
      at = at + 1
      local entry, amount = entries[at], amounts[at]
      entry[USED] = entry[BEFORE] + within(entry[USED] - entry[BEFORE] + amount)
      if limit[SPAN] ~= 0 then kept = math.max(kept, math.min(KEPT_MOST, leaves(limit, entry[NUMBER]) or KEPT_MOST)) end
      if limit[HELD] == 1 then
        local last = #part
        part[last + 1], part[last + 2], part[last + 3] = limit[NAME], entry[NUMBER], amount
      end
    end
    save(KEYS[s + 2], kept + 1000)
    if #part > 1 then
      held[#held + 1] = part
      longest = math.max(longest, kept + 1000)
    end
  end
end
if #held > 0 then
  redis.call('ZADD', KEYS[1], text(now + lease), hold)
  redis.call('HSET', KEYS[2], hold, cmsgpack.pack(held))
  outlive(longest)
end

local answer = {}
at = 0
for _, limits in ipairs(subjects) do
  for _, limit in ipairs(limits) do
    at = at + 1
    local entry, last = entries[at], 4 * at
    answer[last - 3], answer[last - 2], answer[last - 1] = codes[at], within(entry[USED]), resets(limit, entry)
    answer[last] = taken and 0 or room_in(limit, entry, amounts[at])
  end
end
return cmsgpack.pack(answer)
