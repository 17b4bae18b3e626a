"""The master key's story: secrets are opened here, sealed anew when the key is rotated, and counted by the key that they are under.

Rotating is safe while the system works: rows are locked a batch at a time, what they mean does not change, and whoever has the new key
and the old one opens both. It can be broken off and repeated: what is under the newest key is left alone.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from msgspec import Struct, structs

from service.sealing import MARK, Sealer, Unsealable
from service.store import sealed as store
from service.store.callers import DevelopmentKey, Hook
from service.store.connection import Connection
from service.store.sealed import SEALED, SealedColumn, Values

PAGE_ROWS: Final = 200
"""Rows in one transaction: some tens of milliseconds, for which a change of a hook has to wait."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the rows done and all rows."""


def open_hook(hook: Hook, sealer: Sealer) -> Hook:
    """The hook with its secrets as senders know them. Raises Unsealable."""
    return structs.replace(hook, secrets=[sealer.open(secret) for secret in hook.secrets])


def seal_all(secrets: list[str], sealer: Sealer) -> list[str]:
    """The secrets as they are stored."""
    return [sealer.seal(secret) for secret in secrets]


def open_development_key(key: DevelopmentKey, sealer: Sealer) -> DevelopmentKey:
    """The key with its private half in PEM. Raises Unsealable."""
    return structs.replace(key, private_pem=sealer.open(key.private_pem))


class Resealed(Struct, frozen=True, kw_only=True):
    """What a rotation did: values (not rows) sealed anew, and those that no key opens, which stay as they are."""

    sealed: int
    unopenable: int


class ColumnStatus(Struct, frozen=True, kw_only=True):
    """How many values of a column are under the newest key, under an older one, plain, or cannot be opened."""

    column: str
    newest: int = 0
    older: int = 0
    plain: int = 0
    unopenable: int = 0


async def reseal(conn: Connection, sealer: Sealer, *, only_plain: bool = False, progress: Progress | None = None) -> Resealed:
    """Seal with the newest key whatever is plain or, unless `only_plain`, under an older key.

    Safe to repeat, to break off and to run while the system works.
    """
    total = 0 if progress is None else sum([await store.count(conn, column) for column in SEALED])
    done = resealed = unopenable = 0
    for column in SEALED:
        after: store.Key | None = None
        while True:
            async with conn.transaction():
                rows = await store.page(conn, column, after, limit=PAGE_ROWS, unmarked=MARK if only_plain else None, lock=True)
                changed: list[tuple[store.Key, Values]] = []
                for key, values in rows:
                    try:
                        if number := sum(not _is_current(value, sealer) for value in values):
                            changed.append((key, [_reseal(value, sealer) for value in values]))  # type: ignore[arg-type]  # one kind a column
                            resealed += number
                    except Unsealable:
                        unopenable += sum(_state(value, sealer) == "unopenable" for value in values)
                await store.write(conn, column, changed)
            if not rows:
                break
            after = rows[-1][0]
            done += len(rows)
            if progress is not None:
                progress(done, max(done, total))
    return Resealed(sealed=resealed, unopenable=unopenable)


async def status(conn: Connection, sealer: Sealer) -> list[ColumnStatus]:
    """Each sealed column's values by the key that they are under. Reads them all."""
    return [await _column_status(conn, column, sealer) for column in SEALED]


async def _column_status(conn: Connection, column: SealedColumn, sealer: Sealer) -> ColumnStatus:
    counts = {"newest": 0, "older": 0, "plain": 0, "unopenable": 0}
    after: store.Key | None = None
    while rows := await store.page(conn, column, after, limit=PAGE_ROWS):
        for _, values in rows:
            for value in values:
                counts[_state(value, sealer)] += 1
        after = rows[-1][0]
    return ColumnStatus(column=column.name, **counts)


def _state(value: str | bytes, sealer: Sealer) -> str:
    text = _sealed_text(value)
    if text is None:
        return "plain"
    if sealer.is_current(text):
        return "newest"
    try:
        sealer.open_bytes(text)
    except Unsealable:
        return "unopenable"
    return "older"


def _is_current(value: str | bytes, sealer: Sealer) -> bool:
    text = _sealed_text(value)
    return text is not None and sealer.is_current(text)


def _reseal(value: str | bytes, sealer: Sealer) -> str | bytes:
    """The value under the newest key. Raises Unsealable."""
    text = _sealed_text(value)
    if text is not None and sealer.is_current(text):
        return value
    plain = value if text is None else sealer.open_bytes(text)
    sealed = sealer.seal(plain)
    return sealed if isinstance(value, str) else sealed.encode()


def _sealed_text(value: str | bytes) -> str | None:
    """The sealed text; None for a plain value."""
    if isinstance(value, str):
        return value if value.startswith(MARK) else None
    return value.decode("latin-1") if value.startswith(MARK.encode()) else None
