-- How limits stand.
-- ARGV: now or '', the limits of each subject
-- Answer: of each limit used, resets and room; or the time of now in ms, as for a reservation.
local answer = {}
sweep()
for s, limits in ipairs(cmsgpack.unpack(ARGV[2])) do
  local state = state_of(KEYS[s + 2])
  for _, limit in ipairs(limits) do
    local entry = turned(state, limit)
    if not entry then return now end
    local last = #answer
    answer[last + 1], answer[last + 2] = within(entry[USED]), resets(limit, entry)
    answer[last + 3] = room_in(limit, entry, 0)
  end
end
return cmsgpack.pack(answer)
