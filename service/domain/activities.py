"""Activities and what they earn by."""

from schemas.events import ActivityCompleted
from service.domain.claims import Claim


def activity_claims(event: ActivityCompleted, account: int) -> list[Claim]:
    """What an activity earns by."""
    return []
