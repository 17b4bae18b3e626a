"""What a program's events may name beside the reference lists: packaging classes and activities of its own."""

from collections.abc import Mapping

from msgspec import Struct

from service.domain.activities import ActivityKind
from service.domain.packaging import PackagingClass


class Vocabulary(Struct, frozen=True, kw_only=True):
    """A program's own classes and activities by code, retired ones too: what was reported of them keeps its meaning."""

    classes: Mapping[str, PackagingClass] = {}
    kinds: Mapping[str, ActivityKind] = {}
