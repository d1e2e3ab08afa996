-- How limits stand.
-- KEYS: slices, leases, holds of each limit
-- ARGV: now or ''; of each limit "most held span begins ends"
-- Answer: of each limit "used resets room", joined by blanks; or the time of now in ms, as for a reservation.
local answer = {}
for i = 1, #KEYS / 3 do
  local limit = load(3 * i - 2, ARGV[1 + i])
  if not limit then return now end
  answer[i] = standing(limit, 0)
end
return table.concat(answer, ' ')
