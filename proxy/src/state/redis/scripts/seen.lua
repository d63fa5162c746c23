-- An event that may be dealt with once: whoever begins claims it for a while, and says when it is done.
-- KEYS: epoch, event. ARGV: epoch ID, window, 'claim' | 'done' | 'release', who, how long in ms.
-- Returns {'ok' | 'seen' | 'busy' | 'epoch', now}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'epoch', now} end
local there = redis.call('GET', KEYS[2])
if there == 'done' then return {'seen', now} end
if ARGV[3] == 'done' then
  redis.call('SET', KEYS[2], 'done', 'PX', ARGV[5])
elseif there and there ~= ARGV[4] then
  return {'busy', now}
elseif ARGV[3] == 'claim' then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
else
  redis.call('DEL', KEYS[2])
end
return {'ok', now}
