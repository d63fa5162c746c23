-- The rates of one call, in file order, by the generic cell rate algorithm on the server's clock; and
-- before them, where ARGV[3] is not 0, a token that may be used once.
-- Each cell is spent until a time that only ever grows; the sidecar sends what it last saw, so that a
-- store which lost it gives nothing back.
-- KEYS: epoch, once, cells… ARGV: epoch ID, window, once in ms, then for each cell: interval, span,
-- until. Times in microseconds. Returns {'ok' | 'spent', now, until…} | {'epoch' | 'early' | 'used', now}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local epoch = redis.call('HMGET', KEYS[1], 'id', 'since')
if epoch[1] ~= ARGV[1] then return {'epoch', now} end
if not (now - (tonumber(epoch[2]) or now) >= tonumber(ARGV[2])) then return {'early', now} end
if ARGV[3] ~= '0' and not redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3]) then
  return {'used', now}
end
local answer = {'ok', now}
for i = 3, #KEYS do
  local at = 4 + (i - 3) * 3
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
