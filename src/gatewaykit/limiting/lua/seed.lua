-- Begins a calendar period with what was used in it before; does nothing if it has begun.
-- KEYS: slices, leases, holds of the limit
-- ARGV: now or '', lease in ms, used, "most held span begins ends"
-- Answer: 0; or the time of now in ms, if it is not within the period that was given.
local limit = load(1, ARGV[4])
if not limit then return now end
local seeded = redis.call('HSETNX', limit.slices, text(limit.current), text(within(tonumber(ARGV[3]))))
if seeded == 1 then keep(limit, tonumber(ARGV[2])) end
return 0
