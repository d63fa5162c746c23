-- One of each of these totals (a task's budget, an exception's uses), all or none.
-- KEYS: epoch, totals… ARGV: epoch ID, window, then for each total: most, what the sidecar knows is
-- used, and how long it is kept in ms. Returns {'ok' | 'spent', now, used…} | {'epoch' | 'early', now}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local epoch = redis.call('HMGET', KEYS[1], 'id', 'since')
if epoch[1] ~= ARGV[1] then return {'epoch', now} end
if not (now - (tonumber(epoch[2]) or now) >= tonumber(ARGV[2])) then return {'early', now} end
local answer, fits = {'ok', now}, true
for i = 2, #KEYS do
  local at = 3 + (i - 2) * 3
  local used = math.max(tonumber(ARGV[at + 1]), tonumber(redis.call('GET', KEYS[i])) or 0)
  answer[#answer + 1] = used
  if not (used + 1 <= tonumber(ARGV[at])) then fits = false end
end
if not fits then answer[1] = 'spent' end
for i = 2, #KEYS do
  if fits then answer[i + 1] = answer[i + 1] + 1 end
  redis.call('SET', KEYS[i], string.format('%.0f', answer[i + 1]), 'PX', ARGV[3 + (i - 2) * 3 + 2])
end
return answer
