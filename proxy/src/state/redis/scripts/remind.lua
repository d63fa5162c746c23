-- What a sidecar knows goes back into a store that may have lost it: the greater counts.
-- KEYS: epoch, names… ARGV: epoch ID, the window where more will come (else 0), then for each name: value,
-- how long it is kept in ms. While more comes, and for at most half a minute, an open window stays open.
-- Returns {'ok' | 'epoch', now}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local epoch = redis.call('HMGET', KEYS[1], 'id', 'since', 'made')
if epoch[1] ~= ARGV[1] then return {'epoch', now} end
for i = 2, #KEYS do
  local at = 3 + (i - 2) * 2
  if not ((tonumber(redis.call('GET', KEYS[i])) or 0) >= tonumber(ARGV[at])) then
    redis.call('SET', KEYS[i], ARGV[at], 'PX', ARGV[at + 1])
  end
end
local since, made = tonumber(epoch[2]) or now, tonumber(epoch[3]) or 0
if now - since < tonumber(ARGV[2]) and now - made < 30000000 then
  redis.call('HSET', KEYS[1], 'since', string.format('%.0f', now))
end
return {'ok', now}
