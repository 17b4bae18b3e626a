"""What judges remember, saved in Redis: a snapshot a program, so that another judge need not look at months of events again.

It may be lost at any time: PostgreSQL has the events and the order in which they were judged, and whoever finds no snapshot rebuilds it
from there (`flows/judge.py`). The field `at` of the hash says up to which verdict the snapshot goes, and who wrote it last: a judge that
was overtaken does not write over its successor's, and what changed since an older snapshot is not written onto another.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import WatchError

AT: Final = b"at"
FIELDS: Final = 20
"""Of one command, so that Redis is never busy for long: about a megabyte."""
KEPT_MS: Final = 120 * 86_400_000
"""As far as a judge looks back; a snapshot that nobody wrote for so long has nothing that counts."""

Record = tuple[bytes, bytes | None]


class Snapshot(Struct, frozen=True, kw_only=True):
    """Records as they were saved, and the place of the last verdict that they include."""

    seq: int
    records: list[tuple[bytes, bytes]]


class Overtaken(Exception):
    """Another judge, with a later lease, has saved meanwhile."""


class Memory:
    """Snapshots in one Redis. All methods raise REDIS_UNREACHABLE (service.projection)."""

    def __init__(self, redis: Redis, *, epoch: int) -> None:
        """`epoch`: of the deployment; what was saved before a restore is not found."""
        self._redis: Any = redis  # redis-py's stubs do not tell sync from async, nor bytes from str
        self._epoch = epoch

    def key(self, program: int) -> str:
        """The key of a program's snapshot."""
        return f"gp:{self._epoch}:fraud:{{{program}}}"

    async def load(self, program: int) -> Snapshot | None:
        """The snapshot of a program; None: there is none. Call it under the lease: nobody writes meanwhile."""
        key = self.key(program)
        at = await self._redis.hget(key, AT)
        if at is None:
            return None
        records = [(name, value) async for name, value in self._redis.hscan_iter(key, count=FIELDS) if name != AT]
        return Snapshot(seq=_parse(at)[0], records=records)

    async def save(self, program: int, token: int, records: Sequence[Record], *, before: int, seq: int) -> bool:
        """Write what changed since the snapshot that goes up to `before`, all of it or nothing. False: there is no such snapshot.

        `token`: of the judge's lease. Raises Overtaken.
        """
        key = self.key(program)
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            at = await pipe.hget(key, AT)
            if at is None:
                return False
            known, owner = _parse(at)
            if owner > token:
                raise Overtaken(f"a judge with token {owner} has saved, this one has {token}")
            if known != before:
                return False
            pipe.multi()
            _queue(pipe, key, records)
            pipe.hset(key, mapping={AT: _at(seq, token)})
            pipe.pexpire(key, KEPT_MS)
            try:
                await pipe.execute()
            except WatchError:
                raise Overtaken("somebody else has saved at this moment") from None
        return True

    async def save_everything(self, program: int, token: int, records: Iterable[tuple[bytes, bytes | None]], *, seq: int) -> None:
        """Write a whole snapshot, piece by piece beside the old one, which it then takes the place of. Raises Overtaken."""
        key = self.key(program)
        aside = f"{key}:{token}"
        await self._redis.unlink(aside)
        for part in _parts(records):
            await self._redis.hset(aside, mapping={name: value for name, value in part if value is not None})
            await self._redis.pexpire(aside, 3_600_000)  # of a judge that ends here nothing is left behind
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            at = await pipe.hget(key, AT)
            if at is not None and _parse(at)[1] > token:
                await self._redis.unlink(aside)
                raise Overtaken("a later judge has saved")
            pipe.multi()
            pipe.hset(aside, mapping={AT: _at(seq, token)})
            pipe.unlink(key)
            pipe.rename(aside, key)
            pipe.pexpire(key, KEPT_MS)
            try:
                await pipe.execute()
            except WatchError:
                raise Overtaken("somebody else has saved at this moment") from None


def _queue(pipe: Any, key: str, records: Iterable[Record]) -> None:  # noqa: ANN401 - as above
    for part in _parts(records):
        if mapping := {name: value for name, value in part if value is not None}:
            pipe.hset(key, mapping=mapping)
        if gone := [name for name, value in part if value is None]:
            pipe.hdel(key, *gone)


def _parts(records: Iterable[Record]) -> Iterator[list[Record]]:
    left = iter(records)
    while part := list(islice(left, FIELDS)):
        yield part


def _at(seq: int, token: int) -> bytes:
    return b"%d:%d" % (seq, token)


def _parse(at: bytes) -> tuple[int, int]:
    seq, _, token = at.partition(b":")
    return int(seq), int(token)
