-- Begins a calendar period with what was used in it before; does nothing if it has begun, or is not that of now.
-- ARGV: now or '', used, the one limit of the one subject
local limit = cmsgpack.unpack(ARGV[3])[1][1]
local entry, seeded = turned(state_of(KEYS[3]), limit)
if entry and not seeded then
  entry[USED] = within(tonumber(ARGV[2]))
  save(KEYS[3], math.min(KEPT_MOST, leaves(limit, entry[NUMBER]) or KEPT_MOST) + 1000)
end
return 1
