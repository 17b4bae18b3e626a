"""Advisory locks, held until the transaction ends. Take them before any row lock."""

from typing import Final

from service.store.connection import Connection

CATALOGUE_LOCK: Final = 7305
"""Exclusive for a change of campaigns, shared for credits: a changed campaign is never half seen."""
REGISTRY_LOCK: Final = 7306
"""Exclusive among changes of certificates and products; credits do not take it."""
SETTLEMENT_LOCK: Final = 7307
"""With the first bucket of a group: one worker settles a group at a time. Spares the others a wait, guards nothing."""
PLASTIC_PERIODS_LOCK: Final = 7312
"""With the program: shared by who writes entries, exclusive for who closes a period. No entry gets into a closed one."""
PLASTIC_ROWS_LOCK: Final = 7313
"""With the platform: one import of its rows at a time, so that a row's revisions follow each other."""
VOUCHERS_LOCK: Final = 7316
"""With the reward: one load of its codes at a time. Redeeming does not take it."""
FRAUD_SETTINGS_LOCK: Final = 7319
"""With the program: one change of its fraud models and policy at a time. Judges do not take it."""

LOCK_CATALOGUE = f"SELECT pg_advisory_xact_lock({CATALOGUE_LOCK})"
SHARE_CATALOGUE = f"SELECT pg_advisory_xact_lock_shared({CATALOGUE_LOCK})"
LOCK_REGISTRIES = f"SELECT pg_advisory_xact_lock({REGISTRY_LOCK})"

SHARE_PLASTIC_PERIODS = f"SELECT pg_advisory_xact_lock_shared({PLASTIC_PERIODS_LOCK}, $1)"
LOCK_PLASTIC_PERIODS = f"SELECT pg_advisory_xact_lock({PLASTIC_PERIODS_LOCK}, $1)"
LOCK_PLASTIC_ROWS = f"SELECT pg_advisory_xact_lock({PLASTIC_ROWS_LOCK}, $1)"
LOCK_VOUCHERS = f"SELECT pg_advisory_xact_lock({VOUCHERS_LOCK}, $1)"
LOCK_FRAUD_SETTINGS = f"SELECT pg_advisory_xact_lock({FRAUD_SETTINGS_LOCK}, $1)"


async def lock_catalogue(conn: Connection) -> None:
    """Wait until no credit is being decided, and keep the next ones waiting until the commit."""
    await conn.execute(LOCK_CATALOGUE)


async def share_catalogue(conn: Connection) -> None:
    """Keep campaigns as they are, and everybody in the vault, until the commit."""
    await conn.execute(SHARE_CATALOGUE)


async def lock_registries(conn: Connection) -> None:
    """One change of the registries at a time, so that bulk imports need no retries."""
    await conn.execute(LOCK_REGISTRIES)


async def share_plastic_periods(conn: Connection, program: int) -> None:
    """Keep the program's periods of plastics as open as they are until the commit."""
    await conn.execute(SHARE_PLASTIC_PERIODS, program)


async def lock_plastic_periods(conn: Connection, program: int) -> None:
    """Wait until no entry of the program's plastics is being written, and keep the next ones waiting until the commit."""
    await conn.execute(LOCK_PLASTIC_PERIODS, program)


async def lock_plastic_rows(conn: Connection, platform: int) -> None:
    """One import of a platform's plastics at a time. Take it after `share_plastic_periods`."""
    await conn.execute(LOCK_PLASTIC_ROWS, platform)


async def lock_vouchers(conn: Connection, reward: int) -> None:
    """One load of a reward's codes at a time, so that two with the same codes do not wait for each other in a circle."""
    await conn.execute(LOCK_VOUCHERS, reward)


async def lock_fraud_settings(conn: Connection, program: int) -> None:
    """One change of a program's fraud models and policy at a time."""
    await conn.execute(LOCK_FRAUD_SETTINGS, program)
