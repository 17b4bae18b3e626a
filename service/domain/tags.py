"""Events that name reusable assets by their tags, with the assets in place of the tags. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from schemas.events import Event, OrderFulfilled, OrderPaid, PackagingReturned
from service.domain.identifiers import canonical_asset

Named = tuple[str, datetime]
"""A canonical name, and when it was used."""


def names_in(events: Sequence[Event]) -> Iterable[Named]:
    """The assets that events name, and when."""
    for event in events:
        for text in _assets(event):
            yield _named(text, event)


def with_assets(events: Sequence[Event], assets: Mapping[Named, str]) -> list[Event]:
    """The same events with `assets` in place of tags. A box that was read beside its own tag is there once.

    That goes for one shipment, and for returns at one moment: the first of them stays, under the box's own name if it was read.
    """
    changed: list[Event] = []
    back: dict[Named, tuple[int, bool]] = {}
    """By asset: the place of its return, and whether that names the box itself."""
    for event in events:
        own = not any(_named(text, event) in assets for text in _assets(event))
        if type(event) is OrderPaid or type(event) is OrderFulfilled:
            names = dict.fromkeys(assets.get(_named(text, event), text) for text in _assets(event))
            packaging = None if event.packaging is None else replace(event.packaging, assets=list(names))
            changed.append(event if own else replace(event, packaging=packaging))
        elif type(event) is PackagingReturned and len(event.returns) == 1 and event.returns[0].asset is not None:
            asset = assets.get(_named(event.returns[0].asset, event), event.returns[0].asset)
            twin = back.setdefault((asset, event.occurred_at), (len(changed), own))
            if twin[0] == len(changed) or (own and twin[1]):
                changed.append(event if own else replace(event, returns=[replace(event.returns[0], asset=asset)]))
            elif own:
                changed[twin[0]] = event
                back[asset, event.occurred_at] = (twin[0], own)
        else:
            changed.append(event)
    return changed


def _assets(event: Event) -> list[str]:
    if type(event) is OrderPaid or type(event) is OrderFulfilled:
        return [] if event.packaging is None else event.packaging.assets
    if type(event) is PackagingReturned:
        return [item.asset for item in event.returns if item.asset is not None]
    return []


def _named(text: str, event: Event) -> Named:
    return canonical_asset(text), event.occurred_at
