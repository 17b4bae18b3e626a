"""SQL of backups and restores: what a snapshot holds, what is in the way of a restore, and what a restore does besides the data.

A restore is one transaction of psql: `opening`, the script that pg_restore makes, `closing`. Until its last word nobody sees any of it,
and whatever ends it early leaves the database as it was.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from schemas.backups import AppliedMigration, Erased, Erasures, Manifest, Refused
from service.store.connection import Connection
from service.store.deployment import BEGIN_HISTORY
from service.store.migrations import ADVISORY_LOCK
from service.store.vault import hash_sql

MARGIN: Final = timedelta(seconds=1)
"""A transaction is stamped when it begins, and can be told from a reader only when it has written: that happens within so long."""


# What a snapshot holds ---------------------------------------------------------------------------------

PATIENT = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""
SNAPSHOT = """
SELECT pg_export_snapshot() AS name, now() AS at, d.epoch, d.hash_key, current_schema() AS schema,
       current_setting('server_version_num')::int AS server_version,
       least(now(), (SELECT min(xact_start) FROM pg_stat_activity
                     WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid())) AS writing_since
FROM deployment d
"""
MIGRATIONS = "SELECT name, sha256 FROM schema_migration ORDER BY name"
TABLES = """
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
"""


class Snapshot(Struct, frozen=True, kw_only=True):
    """One moment of the database, by the name under which pg_dump can see it, too, while the transaction lasts."""

    name: str
    at: datetime
    complete_until: datetime
    epoch: int
    deployment: str
    schema: str
    server_version: int


async def snapshot(connection: Connection) -> Snapshot:
    """Export the snapshot of a transaction that reads repeatably. Raises UndefinedTableError before the first migration."""
    await connection.execute(PATIENT)
    row = await connection.fetchrow(SNAPSHOT)
    assert row is not None
    return Snapshot(
        name=row["name"], at=row["at"], complete_until=row["writing_since"] - MARGIN, epoch=row["epoch"],
        deployment=fingerprint(row["hash_key"]), schema=row["schema"], server_version=row["server_version"],
    )  # fmt: skip


def fingerprint(hash_key: bytes) -> str:
    """What tells one deployment from another, without its key."""
    return hashlib.sha256(b"greenpoints deployment:" + hash_key).hexdigest()[:32]


async def migrations(connection: Connection) -> list[AppliedMigration]:
    """What has been applied, by name."""
    return [AppliedMigration(name=row["name"], sha256=row["sha256"]) for row in await connection.fetch(MIGRATIONS)]


async def tables(connection: Connection) -> list[str]:
    """Our tables, by name."""
    return [row["name"] for row in await connection.fetch(TABLES)]


async def count(connection: Connection, table: str) -> int:
    """The rows of a table whose name `tables` gave."""
    found: int = await connection.fetchval(f'SELECT count(*) FROM "{table}"')
    return found


# Who was erased ----------------------------------------------------------------------------------------

KEPT = f"""
ARRAY(SELECT encode({hash_sql("r.platform", "r.reference")}, 'hex') FROM consumer_reference r
      WHERE r.bucket = e.bucket AND r.account = e.account AND r.platform = e.platform)
"""
ERASED = f"SELECT e.account, e.platform, e.begun_at AS at, {KEPT} AS kept FROM erasure e ORDER BY e.id"
REFUSED = "SELECT platform, encode(hash, 'hex') AS hash, erased_at AS at FROM erased_reference ORDER BY platform, hash"


async def erasures(connection: Connection, *, format_: int) -> Erasures:
    """Everybody who was erased so far. Call in a transaction that reads repeatably."""
    row = await connection.fetchrow("SELECT now() AS at, hash_key FROM deployment")
    assert row is not None
    return Erasures(
        format=format_, deployment=fingerprint(row["hash_key"]), at=row["at"],
        erased=[Erased(account=r["account"], platform=r["platform"], at=r["at"], kept=r["kept"]) for r in await connection.fetch(ERASED)],
        refused=[Refused(platform=r["platform"], hash=r["hash"], at=r["at"]) for r in await connection.fetch(REFUSED)],
    )  # fmt: skip


# What is in the way ------------------------------------------------------------------------------------

TARGET = """
SELECT current_database() AS database, current_schema() AS schema, current_setting('server_version_num')::int AS server_version,
       to_regclass('erasure') IS NOT NULL AND to_regclass('deployment') IS NOT NULL AS has_erasures
"""
OTHERS = """
SELECT coalesce(nullif(application_name, ''), usename) AS name, count(*) AS number FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
GROUP BY 1 ORDER BY 1
"""
# Extensions, and what belongs to them, stay where they are.
OBJECTS = """
SELECT o.kind, o.name FROM (
    SELECT 'TABLE' AS kind, c.oid::regclass::text AS name, 'pg_class'::regclass AS class, c.oid, 1 AS turn FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'SEQUENCE', c.oid::regclass::text, 'pg_class'::regclass, c.oid, 2 FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'S'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))
    UNION ALL
    SELECT CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'c' THEN 'TYPE' ELSE 'VIEW' END, c.oid::regclass::text,
           CASE c.relkind WHEN 'c' THEN 'pg_type'::regclass ELSE 'pg_class'::regclass END,
           CASE c.relkind WHEN 'c' THEN c.reltype ELSE c.oid END, 3 FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('v', 'm', 'c')
    UNION ALL
    SELECT 'TYPE', t.oid::regtype::text, 'pg_type'::regclass, t.oid, 3 FROM pg_type t
    WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype IN ('e', 'd')
    UNION ALL
    SELECT 'ROUTINE', p.oid::regprocedure::text, 'pg_proc'::regclass, p.oid, 4 FROM pg_proc p
    WHERE p.pronamespace = current_schema()::regnamespace
) o
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
ORDER BY o.turn, o.name
"""


class Target(Struct, frozen=True, kw_only=True):
    """The database that is to be restored into. `objects`: how many tables and the like stand there."""

    database: str
    schema: str | None
    server_version: int
    objects: int
    has_erasures: bool
    deployment: str | None
    others: list[tuple[str, int]]
    """Who else is connected: a name, and by how many connections."""


async def target(connection: Connection) -> Target:
    """Look at it."""
    row = await connection.fetchrow(TARGET)
    assert row is not None
    hash_key = await connection.fetchval("SELECT hash_key FROM deployment") if row["has_erasures"] else None
    return Target(
        database=row["database"], schema=row["schema"], server_version=row["server_version"],
        objects=len(await connection.fetch(OBJECTS)), has_erasures=row["has_erasures"],
        deployment=None if hash_key is None else fingerprint(hash_key),
        others=[(r["name"], r["number"]) for r in await connection.fetch(OTHERS)],
    )  # fmt: skip


# The transaction of a restore --------------------------------------------------------------------------

ROWS_OF_A_STATEMENT: Final = 5_000


def opening(*, schema: str, replace: bool, keep_erasures: bool, erasures: Erasures | None) -> str:
    """What comes before the data: nobody migrates or is connected, who was erased is remembered, the schema is empty.

    `replace`: what stands there goes; otherwise the database must be empty. `keep_erasures`: remember those of the old database, too.
    """
    statements = [
        "BEGIN",
        f"SET LOCAL search_path = {_name(schema)}",
        "SET client_min_messages = warning",
        _unless(f"pg_try_advisory_xact_lock({ADVISORY_LOCK})", "somebody is migrating or restoring this database"),
        _unless(f"NOT EXISTS ({OTHERS})", "somebody has connected to the database meanwhile: stop the API and the workers"),
        "CREATE TEMP TABLE restore_erased (account bigint, platform integer, at timestamptz, kept text[]) ON COMMIT DROP",
        "CREATE TEMP TABLE restore_refused (platform integer, hash text, at timestamptz) ON COMMIT DROP",
    ]
    if keep_erasures:
        statements += [f"INSERT INTO restore_erased (account, platform, at, kept) {ERASED}"]
        statements += [f"INSERT INTO restore_refused (platform, hash, at) {REFUSED}"]
    if erasures is not None:
        columns = "platform integer, at timestamptz"
        statements += _inserts("restore_erased", f"account bigint, {columns}, kept text[]", "account, platform, at, kept", erasures.erased)
        statements += _inserts("restore_refused", f"{columns}, hash text", "platform, hash, at", erasures.refused)
    if replace:
        drop = f"FOR r IN {OBJECTS} LOOP EXECUTE format('DROP %s IF EXISTS %s CASCADE', r.kind, r.name); END LOOP;"
        statements.append(f"DO $do$ DECLARE r record; BEGIN {drop} END $do$")
    statements.append(_unless(f"NOT EXISTS ({OBJECTS})", "the database is not empty"))
    return ";\n".join(statements) + ";\n"


ERASE_AGAIN = f"""
WITH who AS (
    SELECT DISTINCT ON (w.account, w.platform) w.account, w.platform, w.at, w.kept FROM restore_erased w
    WHERE NOT EXISTS (SELECT FROM erasure x WHERE x.account = w.account AND x.platform = w.platform AND x.begun_at = w.at)
    ORDER BY w.account, w.platform, w.at DESC
), gone AS (
    DELETE FROM consumer_reference r USING who w
    WHERE r.bucket = (w.account & 1023)::smallint AND r.account = w.account AND r.platform = w.platform
      AND NOT encode({hash_sql("r.platform", "r.reference")}, 'hex') = ANY (w.kept)
    RETURNING r.bucket, r.account, r.platform, {hash_sql("r.platform", "r.reference")} AS hash, w.at
), unheld AS (
    DELETE FROM legal_hold h USING gone g WHERE h.bucket = g.bucket AND h.account = g.account AND h.lifted_at IS NOT NULL
)
INSERT INTO erasure (bucket, account, program, platform, consumer_hash, begun_at)
SELECT g.bucket, g.account, p.program, g.platform, g.hash, g.at FROM gone g JOIN platform p ON p.id = g.platform
"""
REFUSE_AGAIN = """
INSERT INTO erased_reference (platform, hash, erased_at)
SELECT w.platform, decode(w.hash, 'hex'), min(w.at) FROM restore_refused w JOIN platform p ON p.id = w.platform GROUP BY 1, 2
ON CONFLICT DO NOTHING
"""
_COUNTS = """
DO $do$ DECLARE r record; n bigint; BEGIN
    FOR r IN SELECT key AS name, value::bigint AS rows FROM json_each_text({rows}) LOOP
        EXECUTE format('SELECT count(*) FROM %I', r.name) INTO n;
        IF n <> r.rows THEN RAISE EXCEPTION 'table % has % rows, the manifest says %', r.name, n, r.rows; END IF;
    END LOOP;
END $do$
"""
_AUDIT = """
INSERT INTO audit (actor, action, subject, after)
SELECT 'command', 'database.restore', 'deployment', {after}::jsonb || jsonb_build_object(
    'epoch', d.epoch, 'erased_again', (SELECT count(*) FROM erasure WHERE id > w.id)
) FROM deployment d, restore_before w
"""
RESTORED = """
SELECT (after->>'epoch')::int AS epoch, (after->>'erased_again')::int AS erased_again
FROM audit WHERE action = 'database.restore' ORDER BY id DESC LIMIT 1
"""


def closing(manifest: Manifest) -> str:
    """What comes after the data: the rows are counted, erasures repeated, another history begun, all of it written down and committed."""
    after = {"backup": manifest.id, "snapshot_at": manifest.snapshot_at.isoformat()}
    statements = [
        f"SET LOCAL search_path = {_name(manifest.schema)}",
        _COUNTS.format(rows=_json(manifest.rows)).strip(),
        "CREATE TEMP TABLE restore_before ON COMMIT DROP AS SELECT coalesce(max(id), 0) AS id FROM erasure",
        ERASE_AGAIN.strip(),
        REFUSE_AGAIN.strip(),
        BEGIN_HISTORY.strip(),
        _AUDIT.format(after=_json(after)).strip(),
        "COMMIT",
    ]
    return ";\n".join(statements) + ";\n"


async def restored(connection: Connection) -> tuple[int, int]:
    """The epoch that the last restore has begun, and how many references it erased again."""
    row = await connection.fetchrow(RESTORED)
    assert row is not None
    return row["epoch"], row["erased_again"]


async def analyse(connection: Connection) -> None:
    """Let the planner know what there is: without that a check of a large ledger takes hours."""
    await connection.execute("ANALYZE")


def _unless(condition: str, message: str) -> str:
    return f"DO $do$ BEGIN IF NOT ({condition}) THEN RAISE EXCEPTION '{message}'; END IF; END $do$"


def _inserts(table: str, columns: str, names: str, rows: Sequence[Struct]) -> list[str]:
    return [
        f"INSERT INTO {table} ({names}) SELECT {names} FROM json_to_recordset({_json(rows[start : start + ROWS_OF_A_STATEMENT])}) AS w ({columns})"
        for start in range(0, len(rows), ROWS_OF_A_STATEMENT)
    ]


def _json(value: object) -> str:
    """JSON as a literal of SQL."""
    return "'" + msgspec.json.encode(value).decode().replace("'", "''") + "'"


def _name(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'
