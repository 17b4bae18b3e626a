"""Bounds of what crosses the edge."""

from typing import Final

MAX_REQUEST_ID_CHARS: Final = 128
