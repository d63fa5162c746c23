-- The rates of one call, in file order, by the generic cell rate algorithm on the server's clock.
-- Each cell is spent until a time that only ever grows; the sidecar sends what it last saw, so that a
-- store which lost it gives nothing back.
-- KEYS: epoch, cells… ARGV: epoch ID, window, then for each cell: interval, span, until. Times in
-- microseconds. Returns {'ok' | 'spent', now, until…} | {'epoch' | 'early', now}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local epoch = redis.call('HMGET', KEYS[1], 'id', 'since')
if epoch[1] ~= ARGV[1] then return {'epoch', now} end
if not (now - (tonumber(epoch[2]) or now) >= tonumber(ARGV[2])) then return {'early', now} end
local answer = {'ok', now}
for i = 2, #KEYS do
  local at = 3 + (i - 2) * 3
  local interval, span, known = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local stored = tonumber(redis.call('GET', KEYS[i])) or 0
  local before = math.max(now, math.min(math.max(known, stored), now + span))
  local after = before + interval
  local fits = after - now <= span
  local spent = fits and after or before
  if spent > now then
    redis.call('SET', KEYS[i], string.format('%.0f', spent), 'PX', math.ceil((spent - now) / 1000) + 1000)
  end
  answer[#answer + 1] = spent
  if not fits then
    answer[1] = 'spent'
    return answer
  end
end
return answer
