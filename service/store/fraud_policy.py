"""SQL of what programs decide about holds."""

from datetime import timedelta
from typing import Final

from msgspec import Struct

from schemas.fraud_policy import AtDeadline
from service.store.connection import Connection


class Policy(Struct, frozen=True, kw_only=True):
    """A program's policy; the defaults are those of the columns. `version` 0: nobody has changed it."""

    hold_for: timedelta = timedelta(days=7)
    """How long somebody has to decide about a held event."""
    at_deadline: AtDeadline = "release"
    """What comes then, if nobody has."""
    alone_points: int = 10_000
    """Up to how many points one operator decides alone."""
    reviews_a_day: int = 50
    """How many cases reviewers look at."""
    version: int = 0


FIND: Final = "SELECT hold_for, at_deadline, alone_points, reviews_a_day, version FROM fraud_policy WHERE program = $1"


async def policy(connection: Connection, program: int) -> Policy:
    """The policy in force; one row by its key."""
    row = await connection.fetchrow(FIND, program)
    return Policy() if row is None else Policy(**row)


SAVE: Final = """
INSERT INTO fraud_policy (program, hold_for, at_deadline, alone_points, reviews_a_day, version) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (program) DO UPDATE SET hold_for = excluded.hold_for, at_deadline = excluded.at_deadline,
    alone_points = excluded.alone_points, reviews_a_day = excluded.reviews_a_day, version = excluded.version, changed_at = now()
"""


async def save(connection: Connection, program: int, policy: Policy) -> None:
    """Put a policy in force. The caller holds `locks.lock_fraud_settings`, and has raised the version."""
    await connection.execute(SAVE, program, policy.hold_for, policy.at_deadline, policy.alone_points, policy.reviews_a_day, policy.version)
