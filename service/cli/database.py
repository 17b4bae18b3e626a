"""`greenpoints migrate`."""

import click

from service.cli.servers import connection, run
from service.flows import migrate as flow


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 when a migration is missing.")
def migrate(*, check: bool) -> int:
    """Bring the database to this release's schema.

    Files of migrations/ are applied in order, each in a transaction of its own that waits at most 4 s for a lock. Safe to repeat and to
    run from several machines at once. A file that was changed or is missing after it had been applied is refused.
    """
    return run(_missing() if check else _migrate())


async def _migrate() -> int:
    async with connection() as conn:
        done = await flow.migrate(conn)
    for name in done:
        print(f"applied {name}")
    if not done:
        print("nothing to apply")
    return 0


async def _missing() -> int:
    async with connection() as conn:
        missing = await flow.missing_migrations(conn)
    for name in missing:
        print(f"missing {name}")
    if not missing:
        print("the schema is complete")
    return 1 if missing else 0
