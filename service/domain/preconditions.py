"""Entity tags and If-Match (RFC 9110 §8.8.3, §13.1.1). Pure."""

import re
from typing import Final

from schemas.bounds import MAX_IF_MATCH_CHARS
from service.domain.errors import PreconditionFailed

_TAG: Final = re.compile(r'[ \t]*(?P<weak>W/)?(?P<tag>"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)|[ \t]*,|[ \t]+$')


def matches(if_match: str, tag: str) -> bool:
    """Whether the value of an If-Match header allows a change of what has this strong tag now.

    `*` always does. Of a list one strong tag must be the same; weak ones never are (strong comparison), and a value that is no
    list of tags, or too long, allows nothing.
    """
    if len(if_match) > MAX_IF_MATCH_CHARS:
        return False
    if if_match.strip(" \t") == "*":
        return True
    found, at = False, 0
    while at < len(if_match):
        part = _TAG.match(if_match, at)
        if part is None:
            return False
        found = found or (part["weak"] is None and part["tag"] == tag)
        at = part.end()
    return found


def check(if_match: str | None, tag: str) -> None:
    """Raises PreconditionFailed unless there is no condition or it matches."""
    if if_match is not None and not matches(if_match, tag):
        raise PreconditionFailed(f"It was changed meanwhile: its tag is {tag} now. Read it, and send the tag as it came, in quotes.")
