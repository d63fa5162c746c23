-- A sidecar joins the fleet. The epoch is what all counts belong to: where it is missing (a new or an
-- emptied store), or was made by another run of the server (a restart, a fail-over: the last writes may
-- be lost), it begins anew, and nothing is admitted until every sidecar had time to say what it knows.
-- KEYS: epoch. ARGV: a new ID, what tells the fleet's key. Returns {now, id, since, eviction policy, the
-- key that the fleet has}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local info = redis.call('INFO', 'server')
local run = string.match(info, 'run_id:(%x+)') or '?'
local memory = redis.call('INFO', 'memory')
local eviction = string.match(memory, 'maxmemory_policy:([%w%-]+)') or '?'
local epoch = redis.call('HMGET', KEYS[1], 'id', 'run', 'since', 'key')
if not epoch[1] or not epoch[3] or epoch[2] ~= run then
  epoch = {ARGV[1], run, string.format('%.0f', now), epoch[4] or ARGV[2]}
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'id', epoch[1], 'run', run, 'since', epoch[3], 'made', epoch[3],
    'key', epoch[4])
end
return {now, epoch[1], tonumber(epoch[3]) or now, eviction, epoch[4] or ''}
