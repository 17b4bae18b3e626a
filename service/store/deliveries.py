"""SQL of inbound deliveries that verified but could not be translated."""

from service.store.connection import Connection

KEEP = """
INSERT INTO delivery (program, platform, hook, topic, delivery_id, outcome, detail, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
MAX_NAME_CHARS = 256


async def keep(
    connection: Connection, *, program: int, platform: int, hook: str, topic: str | None, delivery_id: str | None,
    outcome: str, detail: str, body: bytes,
) -> None:  # fmt: skip
    """Keep one, so that it can be looked at and replayed."""
    await connection.execute(KEEP, program, platform, hook, _cut(topic), _cut(delivery_id), outcome, detail, body)


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:MAX_NAME_CHARS]
