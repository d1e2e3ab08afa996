-- Begins a calendar period with what was used in it before; does nothing if it has begun.
-- ARGV: now or '', used, the one limit of the one subject
-- Answer: 0; or the time of now in ms, if it is not within the period that was given.
local limit = cmsgpack.unpack(ARGV[3])[1][1]
local entry, seeded = turned(state_of(KEYS[3]), limit)
if not entry then return now end
if not seeded then
  entry[USED] = within(tonumber(ARGV[2]))
  save(KEYS[3], math.min(KEPT_MOST, leaves(limit, entry[NUMBER]) or KEPT_MOST) + 1000)
end
return 0
