"""The first start's secrets: made once together with the demo, kept in credentials.json, shown in up.json ever after.

The database holds only their hashes, so they must not get lost between its commit and our file: they are written to a file of their own
before the commit and take its real name afterwards.
"""

from msgspec import Struct

from schemas.callers import OperatorCredentials, PlatformCredentials
from service.domain import secrets
from service.domain.errors import GreenpointsError
from service.flows import administer
from service.flows.demo import seed_demo
from service.local.data_dir import DataDir, read_private, write_private
from service.local.identity import LocalError
from service.sealing import Sealer
from service.store import callers
from service.store.connection import Connection

OPERATOR_EMAIL = "admin@localhost"


class Credentials(Struct, frozen=True, kw_only=True):
    """credentials.json. Without the demo there are no platforms yet."""

    operator: OperatorCredentials
    platforms: list[PlatformCredentials]


async def first_credentials(conn: Connection, data_dir: DataDir, *, demo: bool, sealer: Sealer) -> Credentials:
    """The credentials kept in the data directory; on an empty one make an operator and, if wanted, the demo.

    Safe to repeat after a crash anywhere. Raises LocalError when the database was filled from another data directory.
    """
    kept = read_private(data_dir.credentials, Credentials) or await _committed(conn, data_dir)
    if kept is not None:
        return kept
    try:
        async with conn.transaction():
            platforms = await seed_demo(conn, sealer=sealer) if demo else []
            program = (await administer.find_platform(conn, program=None, code=platforms[0].code)).program if platforms else None
            operator = await administer.create_operator(conn, email=OPERATOR_EMAIL, role="admin", program=program)
            made = Credentials(operator=operator, platforms=platforms)
            write_private(data_dir.pending_credentials, made)
    except GreenpointsError as error:
        raise LocalError(
            f"the database was set up from another data directory, whose credentials.json has its keys: use that one ({error.detail})"
        ) from None
    data_dir.pending_credentials.replace(data_dir.credentials)
    return made


async def _committed(conn: Connection, data_dir: DataDir) -> Credentials | None:
    """Credentials whose commit succeeded although we did not live to say so."""
    pending = read_private(data_dir.pending_credentials, Credentials)
    if pending is None or await callers.operator_by_token(conn, secrets.token_hash(pending.operator.token)) is None:
        return None
    data_dir.pending_credentials.replace(data_dir.credentials)
    return pending
