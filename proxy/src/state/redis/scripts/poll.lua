-- The sign of life, and what changed since: each entry is the latest word on its subject, in the order
-- in which they were spoken. One that is too long comes as nothing.
-- KEYS: epoch, order, entries. ARGV: epoch ID, the last number seen, most entries, most bytes of one.
-- Returns {'ok', now, number, entry, …} | {'epoch', now}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'epoch', now} end
local answer = {'ok', now}
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2],
  string.format('%.0f', now + 86400000000), 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #found, 2 do
  local entry = redis.call('HGET', KEYS[3], found[i])
  if not entry or #entry > tonumber(ARGV[4]) then entry = '' end
  answer[#answer + 1] = tonumber(found[i + 1])
  answer[#answer + 1] = entry
end
return answer
