"""Voucher codes: loaded in bulk, and those listed that somebody has seen and nobody may use.

A code is a bearer value. It is sealed before PostgreSQL sees it; its hash, with a key of the reward's that is sealed as well, keeps it from
being loaded twice. No answer, log or audit row repeats it, but for the void ones, which whoever made them has to cancel.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from schemas.problems import FieldError
from schemas.rewards import VoidVoucher, VoucherResult, VouchersAnswer
from service import failpoints
from service.domain.errors import InvalidState, NotFound, Unavailable
from service.domain.rewards import check_voucher, voucher_hash
from service.flows.administer import BY_COMMAND, Change
from service.sealing import Sealer, Unsealable
from service.store import audit, locks
from service.store import vouchers as store
from service.store.connection import Connection

CHUNK_ROWS: Final = 5_000
"""Rows of one statement: what a load holds in memory. Sealing them takes a tenth of a second."""
LOST_KEY: Final = "The reward's codes cannot be opened at the moment; try again later."


async def load(
    conn: Connection, rows: Iterable[str | FieldError], *, sealer: Sealer, program: int, code: str, change: Change = BY_COMMAND,
    max_told: int | None = None, tell: Callable[[int], None] = lambda _: None,
) -> VouchersAnswer:  # fmt: skip
    """Add each code that the reward does not have, all in one transaction; a bad row stops no other, and a repeat adds nothing.

    `rows` may be an iterator over more than fits in memory; then `max_told` limits the results to so many rows that were not created.
    `tell` is called with the number of rows done. One audit row holds the counts. Raises NotFound, InvalidState (a reward without codes),
    Unavailable (no master key opens its key).
    """
    counts: Counter[str] = Counter()
    results: list[VoucherResult] = []
    remaining = iter(rows)
    done = 0
    async with conn.transaction():
        reward, key = await _key(conn, sealer, program, code)
        await locks.lock_vouchers(conn, reward)
        while chunk := list(islice(remaining, CHUNK_ROWS)):
            answered = await _load(conn, sealer, reward, key, done, chunk)
            failpoints.at("vouchers.loaded")
            counts.update(result.status for result in answered)
            if max_told is not None:
                answered = [result for result in answered if result.status != "created"][: max_told - len(results)]
            results += answered
            done += len(chunk)
            tell(done)
        if counts["created"]:
            await audit.record(
                conn, program=program, actor=change.actor, action="voucher.load", subject=f"reward:{code}",
                after={"rows": done} | {name: counts[name] for name in ("created", "duplicate", "rejected")}, request_id=change.request_id,
            )  # fmt: skip
            failpoints.at("vouchers.recorded")
    return VouchersAnswer(created=counts["created"], duplicate=counts["duplicate"], rejected=counts["rejected"], results=results)


async def _load(
    conn: Connection, sealer: Sealer, reward: int, key: bytes, first: int, rows: Sequence[str | FieldError]
) -> list[VoucherResult]:  # fmt: skip
    """What becomes of some rows, numbered from `first`, in their order."""
    results: dict[int, VoucherResult] = {}
    codes: dict[int, str] = {}
    for n, row in enumerate(rows, first):
        checked = row if isinstance(row, FieldError) else check_voucher(row)
        if isinstance(checked, FieldError):
            results[n] = VoucherResult(row=n, status="rejected", errors=[checked])
        else:
            codes[n] = checked
    hashes = {n: voucher_hash(key, code) for n, code in codes.items()}
    by_hash = {hash_: codes[n] for n, hash_ in hashes.items()}
    sealed = await asyncio.to_thread(_seal, sealer, list(by_hash.values()))
    new = await store.load(conn, reward=reward, sealed=sealed, hashes=list(by_hash))
    for n, hash_ in hashes.items():
        results[n] = VoucherResult(row=n, status="created" if hash_ in new else "duplicate")
        new.discard(hash_)
    return [results[n] for n in sorted(results)]


def _seal(sealer: Sealer, codes: Sequence[str]) -> list[str]:
    return [sealer.seal(code) for code in codes]


async def void(conn: Connection, *, sealer: Sealer, program: int, code: str, after: int, limit: int) -> list[tuple[int, VoidVoucher]]:
    """At most `limit` codes that were given out and refunded, with their positions, above `after`. Raises NotFound, Unavailable."""
    found = await store.key_of(conn, program=program, code=code) if code.isascii() and code.isprintable() else None
    if found is None:
        raise NotFound("There is no such reward.")
    rows = await store.void(conn, reward=found[0], after=after, limit=limit)
    try:
        return [
            (row.number, VoidVoucher(code=sealer.open(row.sealed), redemption=row.redemption, voided_at=row.voided_at)) for row in rows
        ]  # fmt: skip
    except Unsealable:
        raise Unavailable(LOST_KEY) from None


async def _key(conn: Connection, sealer: Sealer, program: int, code: str) -> tuple[int, bytes]:
    found = await store.key_of(conn, program=program, code=code) if code.isascii() and code.isprintable() else None
    if found is None:
        raise NotFound("There is no such reward.")
    reward, sealed = found
    if sealed is None:
        raise InvalidState("The reward gives out no codes.")
    try:
        return reward, sealer.open_bytes(sealed)
    except Unsealable:
        raise Unavailable(LOST_KEY) from None
