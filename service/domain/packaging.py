"""Packaging classes of the reference list, by what they do for the waste hierarchy."""

CLASSES: dict[str, tuple[str, ...]] = {
    "reduce": (
        "origin_direct",
        "ship_in_own_container",
        "no_secondary_packaging",
        "consolidated_parcel",
        "reduced_volume_box",
        "slim_tape",
        "tape_free_box",
        "e_waybill",
    ),
    "avoid": ("refill_or_pack_free", "declined_cutlery"),
    "reuse": ("reused_carton", "circular_box", "circular_bag", "deposit_container", "reusable_food_container"),
    "recycle-in": ("recycled_content_carton", "recycled_plastic_mailer", "certified_green_pack"),
    "substitute": ("paper_mailer", "biodegradable_plastic"),
    "baseline": (
        "plastic_mailer",
        "corrugated_plastic_fill",
        "foam_box",
        "woven_single_use_bag",
        "single_use_cutlery",
        "tape_60mm",
        "paper_waybill",
        "single_use_container",
        "original_product_pack",
        "shopping_bag",
    ),
}

CLASS_CODES: frozenset[str] = frozenset(code for codes in CLASSES.values() for code in codes)

_ASSETS = frozenset({"circular_box", "circular_bag", "deposit_container", "reusable_food_container"})


def needs_asset(code: str) -> bool:
    """Whether packaging of this class is told apart piece by piece."""
    return code in _ASSETS
