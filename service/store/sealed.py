"""Columns that hold values sealed with the master key, and the SQL to go through them.

A new sealed column is a line in `SEALED`: `greenpoints keys status` and `rotate-master` then know it.
"""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from service.store.connection import Connection


class SealedColumn(Struct, frozen=True, kw_only=True):
    """A column, and the key by which its rows are gone through.

    `kind`: `text` holds one sealed text, `texts` an array of them, `bytes` the ASCII of one. A null stays null.
    """

    table: str
    key: tuple[str, ...]
    column: str
    kind: Literal["text", "texts", "bytes"] = "text"

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.table}.{self.column}"


SEALED: tuple[SealedColumn, ...] = (
    SealedColumn(table="hook", key=("id",), column="secrets", kind="texts"),
    SealedColumn(table="signing_key", key=("id",), column="private_pem"),
    SealedColumn(table="station", key=("id",), column="private_pem"),
    SealedColumn(table="delivery", key=("id",), column="sealed"),
    SealedColumn(table="reward", key=("id",), column="sealed_key"),
    SealedColumn(table="voucher", key=("reward", "number"), column="sealed"),
)

Key = tuple[Any, ...]
Values = list[str] | list[bytes]

# Whether something in the row does not begin with a mark. `IS NOT NULL` stands before it.
_UNMARKED = {
    "text": "NOT starts_with({column}, ${n}::text)",
    "texts": "EXISTS (SELECT FROM unnest({column}) AS v(value) WHERE NOT starts_with(v.value, ${n}::text))",
    "bytes": "substring({column} FROM 1 FOR octet_length(${n}::text)) <> convert_to(${n}::text, 'UTF8')",
}


def page_statement(column: SealedColumn, *, first: bool, unmarked: bool, lock: bool) -> str:
    """Rows in the order of their key. The parameters: limit, the key to go on after unless it is the first page, the mark if wanted."""
    keys = ", ".join(column.key)
    conditions = [f"{column.column} IS NOT NULL"]
    if not first:
        conditions.append(f"({keys}) > ({', '.join(f'${i + 2}' for i in range(len(column.key)))})")
    if unmarked:
        conditions.append(_UNMARKED[column.kind].format(column=column.column, n=2 if first else 2 + len(column.key)))
    return f"SELECT {keys}, {column.column} FROM {column.table} WHERE {' AND '.join(conditions)} ORDER BY {keys} LIMIT $1" + (
        " FOR NO KEY UPDATE" if lock else ""
    )


def write_statement(column: SealedColumn) -> str:
    """The parameters are the value and the key."""
    return f"UPDATE {column.table} SET {column.column} = $1 WHERE " + " AND ".join(
        f"{name} = ${i + 2}" for i, name in enumerate(column.key)
    )


async def count(conn: Connection, column: SealedColumn) -> int:
    """Rows that hold something in this column."""
    found: int = await conn.fetchval(f"SELECT count(*) FROM {column.table} WHERE {column.column} IS NOT NULL")
    return found


async def page(
    conn: Connection, column: SealedColumn, after: Key | None, *, limit: int, unmarked: str | None = None, lock: bool = False
) -> list[tuple[Key, Values]]:
    """At most `limit` rows after this key, with the values as they are stored; locked, if wanted, until the transaction ends.

    `unmarked`: only rows with a value that does not begin with this mark.
    """
    statement = page_statement(column, first=after is None, unmarked=unmarked is not None, lock=lock)
    marks = () if unmarked is None else (unmarked,)
    width = len(column.key)
    return [
        (tuple(row)[:width], list(row[width]) if column.kind == "texts" else [row[width]])
        for row in await conn.fetch(statement, limit, *(after or ()), *marks)
    ]


async def write(conn: Connection, column: SealedColumn, rows: Sequence[tuple[Key, Values]]) -> None:
    """Replace the values of these rows."""
    written = [(values if column.kind == "texts" else values[0], *key) for key, values in rows]
    await conn.executemany(write_statement(column), written)
