-- Changes of authority, each the latest word on its subject: one with a lower number than what is
-- there is not taken. What is over is thrown away meanwhile.
-- An entry's place in the order is the time, or after the last one, so that nobody who read up to there
-- passes it over, whatever was thrown away or put there by others. No place is a day ahead.
-- KEYS: epoch, order, entries, ends. ARGV: epoch ID, the most entries, the channel, then for each
-- change: subject, number, text, when it is over.
-- Returns {'ok', now, result…} | {'epoch' | 'full', now}; a result is 0, or the number that is there.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'epoch', now} end
local over = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now), 'LIMIT', 0, 50)
for _, subject in ipairs(over) do
  redis.call('ZREM', KEYS[2], subject)
  redis.call('HDEL', KEYS[3], subject)
  redis.call('ZREM', KEYS[4], subject)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.0f', now + 86400000000), '+inf')
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local place = math.max(now, (tonumber(last[2]) or 0) + 1)
local answer, told = {'ok', now}, false
for at = 4, #ARGV, 4 do
  local subject, number, text = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local there = redis.call('HGET', KEYS[3], subject)
  local known = there and tonumber(string.match(there, '^(%d+) ')) or 0
  if there == text then
    answer[#answer + 1] = 0
  elseif known >= number and known < now + 172800000000 then
    answer[#answer + 1] = known
  else
    if not there and redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[2]) then return {'full', now} end
    redis.call('HSET', KEYS[3], subject, text)
    redis.call('ZADD', KEYS[2], string.format('%.0f', place), subject)
    place = place + 1
    redis.call('ZADD', KEYS[4], ARGV[at + 3], subject)
    answer[#answer + 1] = 0
    told = true
  end
end
if told then redis.pcall('PUBLISH', ARGV[3], '1') end
return answer
