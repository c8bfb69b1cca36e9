"""What Redis does in one atomic step: one script per decision, each on the keys of one run.

All of them may be sent again after a lost reply: an append that is stored already says so, a flag
that is up stays as it is, a claim that was made is still made. The first write of each is one that
Redis refuses when it is out of memory, so none is left half done. Hints are published with `pcall`:
where publishing is not allowed, nothing but speed is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Final

Command = tuple[Any, ...]
"""A command and its arguments: str, bytes, int or float."""


@dataclass(frozen=True)
class Script:
    """A Lua script; Redis knows it by its hash."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)

    def __call__(self, keys: tuple[str, ...], *values: str | bytes | int | float) -> Command:
        """Return the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *values)


CREATE: Final = Script("""
-- KEYS run; ARGV request, owner. A run that is there already is left alone.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'request', ARGV[1], 'owner', ARGV[2], 'fence', 1, 'last', 0)
end
return 1
""")

APPEND: Final = Script("""
-- KEYS run, log, flags, members; ARGV fence, first seq, last seq, how many flags the owner knows,
-- channel, final status, time of the end, place of the snapshot, snapshot (empty where there is
-- none), number of endings, number of members, then: the run ids that end otherwise than cancelled,
-- id and state of members, and the frames.
local run = redis.call('HMGET', KEYS[1], 'fence', 'last', 'status')
if run[1] ~= ARGV[1] then return {'lost'} end
local flags = {}
if redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[4]) then
  flags = redis.call('HGETALL', KEYS[3])
end
if run[2] == ARGV[3] then return {'ok', flags} end
if run[3] then return {'lost'} end
if tonumber(run[2]) ~= ARGV[2] - 1 then return {'gap', run[2]} end
local at = 12
for i = at, at + ARGV[10] - 1 do
  if redis.call('HEXISTS', KEYS[3], ARGV[i]) == 1 then
    return {'due', redis.call('HGETALL', KEYS[3])}
  end
end
at = at + ARGV[10]
local frames = at + 2 * ARGV[11]
for i = frames, #ARGV, 1000 do
  redis.call('RPUSH', KEYS[2], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('HSET', KEYS[1], 'last', ARGV[3])
for i = at, frames - 1, 2 do
  redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
end
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'status', ARGV[6], 'finished_at', ARGV[7])
end
if ARGV[8] ~= '' then
  redis.call('HSET', KEYS[1], 'saved', ARGV[8], 'snapshot', ARGV[9])
end
redis.pcall('PUBLISH', ARGV[5], ARGV[3])
return {'ok', flags}
""")

FLAG: Final = Script("""
-- KEYS run, flags, members; ARGV target's run id, team's run id, flag, prefix of the replicas'
-- channels, channel of the run. Returns all flags of the run, nothing where there is no such run.
local run = redis.call('HMGET', KEYS[1], 'fence', 'status', 'owner')
if not run[1] then return false end
local works = '1'
if ARGV[1] ~= ARGV[2] then works = redis.call('HGET', KEYS[3], ARGV[1]) end
if not works then return false end
if not run[2] and works == '1' and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0
    and redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[3]) == 1 then
  redis.pcall('PUBLISH', ARGV[4] .. run[3], ARGV[2])
  redis.pcall('PUBLISH', ARGV[5], '')
end
return redis.call('HGETALL', KEYS[2])
""")

CLAIM: Final = Script("""
-- KEYS run, flags; ARGV old owner, new owner, the fence that the old one had. The new fence is one
-- higher, so nothing that is still on its way under the old one is stored.
local run = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'last')
if not run[1] then return false end
local fence = tostring(ARGV[3] + 1)
if run[1] == ARGV[1] and run[2] == ARGV[3] then
  redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'fence', fence)
elseif run[1] ~= ARGV[2] or run[2] ~= fence then
  return false
end
return {tonumber(run[3]), redis.call('HGETALL', KEYS[2])}
""")

LEASE: Final = Script("""
-- KEYS replicas; ARGV replica, how long its lease lasts, in ms. Returns those whose lease is over.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)
""")

BURY: Final = Script("""
-- KEYS replicas; ARGV replica. Strikes it off, unless its lease is not over any more: it is back.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local over = redis.call('ZSCORE', KEYS[1], ARGV[1])
if over and tonumber(over) < now then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
""")

LOOK: Final = Script("""
-- KEYS run, flags: who owns the run, and its flags.
return {redis.call('HGET', KEYS[1], 'owner'), redis.call('HGETALL', KEYS[2])}
""")

FETCH: Final = Script("""
-- KEYS run, log, flags; ARGV place behind which to read (empty: of the snapshot), limit of bytes.
-- Returns the end of the log, the final status or nothing, the place of the last frame read, those
-- frames joined, flags, request, snapshot (the last two only where no place was given).
local run = redis.call('HMGET', KEYS[1], 'last', 'status')
if not run[1] then return false end
local kept = {'', ''}
local at, last, limit = tonumber(ARGV[1]), tonumber(run[1]), tonumber(ARGV[2])
if not at then
  at = tonumber(redis.call('HGET', KEYS[1], 'saved') or 0)
  kept = redis.call('HMGET', KEYS[1], 'request', 'snapshot')
end
local frames, size = {}, 0
while at < last and size < limit do
  local some = redis.call('LRANGE', KEYS[2], at, at + 63)
  if #some == 0 then break end
  for _, frame in ipairs(some) do
    frames[#frames + 1] = frame
    size = size + #frame
    at = at + 1
    if size >= limit then break end
  end
end
return {last, run[2] or '', at, table.concat(frames), redis.call('HGETALL', KEYS[3]),
  kept[1] or '', kept[2] or ''}
""")

NAME: Final = Script("""
-- KEYS idempotency key; ARGV run id. Returns the id of the run that has the key now.
local taken = redis.call('GET', KEYS[1])
if not taken then redis.call('SET', KEYS[1], ARGV[1]) end
return taken or ARGV[1]
""")

UNNAME: Final = Script("""
-- KEYS idempotency key; ARGV run id. Frees a key that is this run's.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")

SCRIPTS: Final = (CREATE, APPEND, FLAG, CLAIM, LEASE, BURY, LOOK, FETCH, NAME, UNNAME)
