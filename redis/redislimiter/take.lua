-- KEYS[1]: the bucket, "<stamp> <debt>": the microsecond of Redis's clock at which it was
--          written, and in how many ticks from then it is full again.
-- ARGV:    ticks that a token costs, tokens in a full bucket, ticks to leave in it, most
--          and least tokens to take.
-- Returns  tokens taken, debt in ticks; as texts, since not all that runs Lua has long integers.
local cost, burst, leave = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local most, least = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local debt, write = 0, false
local stored = redis.call('GET', KEYS[1])
if stored then
  local stamp, owed = string.match(stored, '^(%d+) (%d+)$')
  stamp, owed = tonumber(stamp) or now, tonumber(owed) or 0
  -- A clock that went back adds nothing and takes nothing, but it has to be noted, or
  -- nothing would come in until it is where it was. So has a debt above a new limit.
  debt = math.max(0, owed - math.max(0, now - stamp) * 16000)
  write = now < stamp or debt > cost * burst
  debt = math.min(debt, cost * burst)
end

local n = math.min(most, burst - math.ceil((debt + leave) / cost))
if n < least or n < 0 then n = 0 end
if n > 0 or write then
  debt = debt + n * cost
  local ms = math.max(1, math.ceil(debt / 16000000))
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', now, debt), 'PX', string.format('%.0f', ms))
end
return {string.format('%.0f', n), string.format('%.0f', debt)}
