"""The catalogue of rewards: made and changed by operators, shown to platforms and consumers.

A change takes the reward's lock: redemptions that are under way end before it, later ones see it. Its audit row commits with it.
"""

from secrets import token_bytes
from typing import Any

import msgspec
from msgspec import UNSET

from schemas.rewards import MyReward, RewardAnswer, RewardBody, RewardItem, RewardPatch
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.rewards import KEY_BYTES, RewardValues, check_values
from service.flows.administer import BY_COMMAND, Change
from service.sealing import Sealer
from service.store import audit, balances
from service.store import rewards as store
from service.store.connection import Connection
from service.store.stations import active_platforms

# Operators ------------------------------------------------------------------------------------------------


async def create_reward(conn: Connection, body: RewardBody, *, sealer: Sealer, program: int, change: Change = BY_COMMAND) -> RewardAnswer:
    """A new reward, on offer at once. Raises InvalidRequest with all its errors, InvalidState (the code is taken)."""
    async with conn.transaction():
        platforms = await _platforms(conn, program, body.platforms)
        values = RewardValues(
            name=body.name, description=body.description, points=body.points, stock=body.stock, per_consumer=body.per_consumer,
            valid_from=body.valid_from, valid_until=body.valid_until, platforms=platforms, active=True,
        )  # fmt: skip
        check_values(values, taken=0)
        key = sealer.seal(token_bytes(KEY_BYTES)) if body.vouchers else None
        if not await store.insert(conn, program=program, code=body.code, sealed_key=key, values=values):
            raise InvalidState(f"There is a reward {body.code!r} already.")
        await _record(conn, program, change, "reward.create", body.code, after=msgspec.to_builtins(body))
        return await read_reward(conn, body.code, program=program)


async def change_reward(conn: Connection, code: str, patch: RewardPatch, *, program: int, change: Change = BY_COMMAND) -> RewardAnswer:
    """Change what the patch names, for what is reserved from then on. What it is called and whether it has codes stays.

    Raises NotFound, InvalidRequest with all errors (a stock smaller than what is reserved and given out among them).
    """
    async with conn.transaction():
        found = await store.for_change(conn, program=program, code=code) if _is_code(code) else None
        if found is None:
            raise NotFound("There is no such reward.")
        before = await read_reward(conn, code, program=program)
        given = {name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not UNSET}
        if "platforms" in given:
            given["platforms"] = await _platforms(conn, program, given["platforms"])
        old = RewardValues(**{name: getattr(found, name) for name in RewardValues.__struct_fields__})
        new = msgspec.structs.replace(old, **given)
        taken = await store.count_uses(conn, found.id)
        check_values(new, taken=taken)
        if new == old:
            return before
        await store.update(conn, program=program, id_=found.id, taken=taken, values=new)
        after = await read_reward(conn, code, program=program)
        await _record(conn, program, change, "reward.change", code, before=_said(before, given), after=_said(after, given))
    return after


async def read_reward(conn: Connection, code: str, *, program: int) -> RewardAnswer:
    """One reward with its counts. Raises NotFound."""
    row = await store.get(conn, program=program, code=code) if _is_code(code) else None
    if row is None:
        raise NotFound("There is no such reward.")
    counts = await store.counts(conn, row.id)
    return RewardAnswer(
        **_shown(row), **_operators(row), left=None if row.stock is None or row.taken is None else row.stock - row.taken,
        reserved=counts.reserved, given_out=counts.given, codes_left=counts.codes_left if row.has_codes else None,
        codes_void=counts.codes_void if row.has_codes else None,
    )  # fmt: skip


async def rewards_page(conn: Connection, *, program: int, after: str, limit: int) -> list[RewardItem]:
    """At most `limit` rewards of a program with codes above `after`, for operators."""
    rows = await store.page(conn, program=program, after=after, limit=limit)
    return [RewardItem(**_shown(row), **_operators(row)) for row in rows]


# Platforms and consumers -----------------------------------------------------------------------------------


async def offers(conn: Connection, *, program: int, platform: int, after: str, limit: int) -> list[RewardItem]:
    """At most `limit` rewards that a platform can offer now, in stock or not. Nothing is said of other platforms."""
    rows = await store.offers(conn, program=program, platform=platform, after=after, limit=limit)
    return [RewardItem(**_shown(row)) for row in rows]


async def offers_to(conn: Connection, *, program: int, platform: int, reference: str, after: str, limit: int) -> list[MyReward]:
    """The same for a consumer, who may be unknown as yet: what it could have now."""
    known = await balances.find_account(conn, platform, reference)
    account, available = (0, 0) if known is None else await store.purse(conn, known)
    rows = await store.offers_to(conn, program=program, platform=platform, account=account, after=after, limit=limit)
    return [_mine(row, available) for row in rows]


def _mine(row: store.Offer, points: int) -> MyReward:
    remaining = None if row.per_consumer is None else max(0, row.per_consumer - row.used)
    return MyReward(
        code=row.code, name=row.name, description=row.description, points=row.points, valid_from=row.valid_from,
        valid_until=row.valid_until, vouchers=row.has_codes, in_stock=row.in_stock, remaining=remaining, affordable=row.points <= points,
        available=row.in_stock and remaining != 0 and row.points <= points,
    )  # fmt: skip


# Common ---------------------------------------------------------------------------------------------------


def _shown(row: store.RewardRow) -> dict[str, Any]:
    """What everybody sees."""
    return {
        "code": row.code, "name": row.name, "description": row.description, "points": row.points, "per_consumer": row.per_consumer,
        "valid_from": row.valid_from, "valid_until": row.valid_until, "vouchers": row.has_codes, "in_stock": row.in_stock,
    }  # fmt: skip


def _operators(row: store.RewardRow) -> dict[str, Any]:
    """What operators see beside it."""
    return {"platforms": row.platform_codes, "stock": row.stock, "active": row.active, "created_at": row.created_at}


def _said(answer: RewardAnswer, names: dict[str, Any]) -> dict[str, Any]:
    """What was changed, as JSON-like data, for the audit."""
    plain: dict[str, Any] = msgspec.to_builtins(answer)
    return {name: plain[name] for name in names}


def _is_code(text: str) -> bool:
    """Whether it can be in the table: text of PostgreSQL holds no NUL."""
    return text.isascii() and text.isprintable()


async def _platforms(conn: Connection, program: int, codes: list[str] | None) -> list[int] | None:
    """Their numbers. Raises InvalidRequest for those that are not the program's."""
    if codes is None:
        return None
    found = await active_platforms(conn, program=program, codes=codes)
    for n, code in enumerate(codes):
        if code not in found:
            raise InvalidRequest.at(f"/platforms/{n}", "is not a platform of this program")
    return sorted(set(found.values()))


async def _record(
    conn: Connection, program: int, change: Change, action: str, code: str, *, after: dict[str, Any], before: dict[str, Any] | None = None
) -> None:
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=f"reward:{code}", before=before, after=after,
        request_id=change.request_id,
    )  # fmt: skip
