"""What a Redis or Valkey server does in one step: the scripts, in the server's own language.

Owns the keys and what stands in them. Amounts are changed by `HINCRBY`, which is exact to 64 bits; the scripts' own
numbers are doubles, so they compare thousands of millions and the rest apart. A script that is sent twice is carried
out once: a ticket is held, settled and released once, and where that does not tell, whoever asks gives the question a
mark of its own. Knows nothing of connections; `redis` sends them. If one is wrong, money is spent that was refused
elsewhere.
"""

from __future__ import annotations

import hashlib

# A number is a pair: thousands of millions, and the rest. `c:KEY` is a counter: s(pent), r(eserved), u(npriced),
# e(stimated); a rolling one has s and r for each second. `t:ID` is a ticket: its lease, the mark of who last made it
# grow and, by n, the counter, its window, its second, its end and what is held. `o:KEY` is who was the first to ask:
# until when and the mark. `l` and `b` are the leases of open and of booked tickets, `k` the counters, `z` their ends.
_COMMON = """
local base, floor = KEYS[1], math.floor
local function pair(text)
    if not text then return {0, 0} end
    if #text <= 9 then return {0, tonumber(text)} end
    return {tonumber(text:sub(1, -10)), tonumber(text:sub(-9))}
end
local function plus(a, b)
    local low = a[2] + b[2]
    local carry = floor(low / 1e9)
    return {a[1] + b[1] + carry, low - carry * 1e9}
end
local function minus(a, b)
    local low = a[2] - b[2]
    local carry = floor(low / 1e9)
    return {a[1] - b[1] + carry, low - carry * 1e9}
end
local function above(a, b) return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2]) end
local function text(a)
    if a[1] == 0 then return string.format('%.0f', a[2]) end
    return string.format('%.0f%09.0f', a[1], a[2])
end
local function counter(key) return base .. 'c:' .. key end
local function sums(key, look, now)
    local name = counter(key)
    if look == 0 then
        local found = redis.call('HMGET', name, 's', 'r')
        return pair(found[1]), pair(found[2])
    end
    local since = floor(now / 1000) - look
    local found, spent, reserved = redis.call('HGETALL', name), {0, 0}, {0, 0}
    for at = 1, #found, 2 do
        local field = found[at]
        local second = tonumber(field:sub(2))
        if second then
            if second < since then redis.call('HDEL', name, field)
            elseif field:sub(1, 1) == 's' then spent = plus(spent, pair(found[at + 1]))
            else reserved = plus(reserved, pair(found[at + 1])) end
        end
    end
    return spent, reserved
end
local function change(key, look, slot, what, by)
    if by == '0' or by == '-0' then return end
    local name, field = counter(key), what
    if look > 0 then
        field = what .. slot
        if redis.call('HEXISTS', name, 'r' .. slot) == 0 then return end
    end
    redis.call('HINCRBY', name, field, by)
end
local function touch(key, look, slot, ends)
    local name = counter(key)
    if look > 0 then redis.call('HSETNX', name, 'r' .. slot, '0') end
    redis.call('HSETNX', name, 'w', string.format('%.0f', look))
    redis.call('ZADD', base .. 'k', 0, key)
    if ends > 0 then redis.call('ZADD', base .. 'z', ends, key) end
end
local function negative(amount) if amount == '0' then return '0' end return '-' .. amount end
local function ticket(id)
    local found = redis.call('HGETALL', base .. 't:' .. id)
    if #found == 0 then return nil end
    local made = {rows = {}}
    for at = 1, #found, 2 do
        local n = tonumber(found[at])
        if n then
            local look, slot, ends, held, key = found[at + 1]:match('^(%d+) (%d+) (%d+) (%d+) (.*)$')
            made.rows[n + 1] = {key = key, look = tonumber(look), slot = slot, ends = ends, held = held}
        else made[found[at]] = found[at + 1] end
    end
    return made
end
local function put(id, n, row)
    redis.call('HSET', base .. 't:' .. id, n,
        table.concat({string.format('%.0f', row.look), row.slot, row.ends, row.held, row.key}, ' '))
end
local function gone(id)
    redis.call('DEL', base .. 't:' .. id)
    redis.call('ZREM', base .. 'l', id)
    redis.call('ZREM', base .. 'b', id)
end
local function book(row, sign)
    change(row.key, row.look, row.slot, 's', sign > 0 and row.held or negative(row.held))
    change(row.key, row.look, row.slot, 'r', sign > 0 and negative(row.held) or row.held)
    redis.call('HINCRBY', counter(row.key), 'e', sign)
end
"""

_RESERVE = """
local id, now, lease, count = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local before = ticket(id)
if before then
    local answer = {'held'}
    for _, row in ipairs(before.rows) do answer[#answer + 1] = row.held end
    return answer
end
local rows, over = {}, {}
for n = 0, count - 1 do
    local at = 5 + n * 6
    local key, limit, hard = ARGV[at], pair(ARGV[at + 1]), ARGV[at + 2] == '1'
    local look, ends, amount = tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5]
    local spent, reserved = sums(key, look, now)
    local used = plus(spent, reserved)
    if amount == '-1' then
        amount = above(limit, used) and text(minus(limit, used)) or '0'
        if hard and amount == '0' then return {'full', n, text(spent), text(reserved)} end
    end
    if above(plus(used, pair(amount)), limit) then
        if hard then return {'full', n, text(spent), text(reserved)} end
        over[#over + 1] = n .. ' ' .. text(spent) .. ' ' .. text(reserved)
    end
    local slot = look > 0 and string.format('%.0f', floor(now / 1000)) or '0'
    rows[#rows + 1] = {key = key, look = look, slot = slot, ends = ends, held = amount}
end
local answer = {'held'}
for n, row in ipairs(rows) do
    touch(row.key, row.look, row.slot, tonumber(row.ends))
    change(row.key, row.look, row.slot, 'r', row.held)
    put(id, n - 1, row)
    answer[#answer + 1] = row.held
end
redis.call('HSET', base .. 't:' .. id, 'lease', lease)
redis.call('ZADD', base .. 'l', lease, id)
for _, line in ipairs(over) do answer[#answer + 1] = line end
return answer
"""

_GROW = """
local id, now, lease, count = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local open, mark = ticket(id), ARGV[5]
if not open or open.booked then return 0 end
if open.grown == mark then return 1 end
for n = 0, count - 1 do
    local at = 6 + n * 3
    local row, more = open.rows[n + 1], ARGV[at + 2]
    if more ~= '0' and ARGV[at + 1] == '1' then
        local spent, reserved = sums(row.key, row.look, now)
        if above(plus(plus(spent, reserved), pair(more)), pair(ARGV[at])) then return 0 end
    end
end
for n = 0, count - 1 do
    local row, more = open.rows[n + 1], ARGV[8 + n * 3]
    if more ~= '0' then
        change(row.key, row.look, row.slot, 'r', more)
        row.held = text(plus(pair(row.held), pair(more)))
        put(id, n, row)
    end
end
redis.call('HSET', base .. 't:' .. id, 'grown', mark)
if tonumber(lease) > tonumber(open.lease) then
    redis.call('HSET', base .. 't:' .. id, 'lease', lease)
    redis.call('ZADD', base .. 'l', lease, id)
end
return 1
"""

_SETTLE = """
local id, now, estimated, count = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local open = ticket(id)
if not open then return false end
local after = {}
for n = 0, count - 1 do
    local row, amount = open.rows[n + 1], ARGV[5 + n]
    if open.booked then book(row, -1) end
    local counted = nil
    if amount == '' then
        counted = row.held == '0' and 'u' or 'e'
        amount = row.held
    elseif estimated then counted = 'e' end
    if counted then redis.call('HINCRBY', counter(row.key), counted, 1) end
    change(row.key, row.look, row.slot, 'r', negative(row.held))
    change(row.key, row.look, row.slot, 's', amount)
end
for n = 0, count - 1 do
    local row = open.rows[n + 1]
    after[#after + 1] = text((sums(row.key, row.look, now)))
end
gone(id)
return after
"""

_EXPIRE = """
local now, late, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = redis.call('ZRANGEBYSCORE', base .. 'l', '-inf', now, 'LIMIT', 0, most)
for _, id in ipairs(due) do
    local open = ticket(id)
    if open then
        for _, row in ipairs(open.rows) do book(row, 1) end
        redis.call('HSET', base .. 't:' .. id, 'booked', 1)
        redis.call('ZADD', base .. 'b', open.lease, id)
    end
    redis.call('ZREM', base .. 'l', id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'b', '-inf', now - late, 'LIMIT', 0, most)) do gone(id) end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', base .. 'z', '-inf', now, 'LIMIT', 0, most)) do
    redis.call('DEL', counter(key))
    redis.call('ZREM', base .. 'z', key)
    redis.call('ZREM', base .. 'k', key)
end
return #due
"""

_ONCE = """
local name, ends, now, mark = base .. 'o:' .. ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local found = redis.call('GET', name)
if found then
    local told, by = found:match('^(%d+) ?(.*)$')
    if by == mark then return 1 end
    if told == '0' or tonumber(told) > now then return 0 end
end
redis.call('SET', name, ends .. ' ' .. mark)
if ends ~= '0' then redis.call('PEXPIRE', name, math.max(tonumber(ends) - now, 0) + 60000) end
return 1
"""

_READ = """
local prefix, now, found = ARGV[1], tonumber(ARGV[2]), {}
for _, key in ipairs(redis.call('ZRANGEBYLEX', base .. 'k', '[' .. prefix, '[' .. prefix .. '\\255')) do
    local look = tonumber(redis.call('HGET', counter(key), 'w') or '0')
    local spent, reserved = sums(key, look, now)
    local counts = redis.call('HMGET', counter(key), 'u', 'e')
    found[#found + 1] = {key, text(spent), text(reserved), counts[1] or '0', counts[2] or '0'}
end
return found
"""

_REBUILD = """
local rebuilt = {}
for at = 1, #ARGV, 3 do
    local key = ARGV[at]
    rebuilt[key] = true
    touch(key, 0, '0', tonumber(ARGV[at + 2]))
    redis.call('HSET', counter(key), 's', ARGV[at + 1], 'e', '0')
end
for _, id in ipairs(redis.call('ZRANGE', base .. 'b', 0, -1)) do
    local booked = ticket(id)
    for _, row in ipairs(booked and booked.rows or {}) do
        if rebuilt[row.key] then gone(id) end
    end
end
return 1
"""


class Script:
    """One step as the server knows it."""

    def __init__(self, body: str) -> None:
        self.text = _COMMON + body
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


RESERVE, GROW, SETTLE = Script(_RESERVE), Script(_GROW), Script(_SETTLE)
EXPIRE, ONCE, READ, REBUILD = Script(_EXPIRE), Script(_ONCE), Script(_READ), Script(_REBUILD)
