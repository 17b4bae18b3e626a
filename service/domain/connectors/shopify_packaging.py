"""Which packaging a Shopify customer chose: cart attributes, line properties and shipping methods, by a hook's rules."""

from collections.abc import Iterable, Sequence

from schemas import shopify
from schemas.connectors import NoteAttributeRule, PackagingRule, PropertyRule, ShippingLineRule

Pair = tuple[str, str]


def chosen_class(order: shopify.Order, rules: Sequence[PackagingRule]) -> str | None:
    """The class of the first rule that fits the order; None when none does."""
    return next((rule.class_ for rule in rules if _fits(rule, order)), None)


def _fits(rule: PackagingRule, order: shopify.Order) -> bool:
    match rule:
        case NoteAttributeRule():
            return _says(_pairs(order.note_attributes), rule)
        case PropertyRule():
            return any(_says(_pairs(item.properties), rule) for item in order.line_items)
        case ShippingLineRule():
            return any(_is_shipped_by(line, rule) for line in order.shipping_lines or ())


def _says(pairs: Iterable[Pair], rule: NoteAttributeRule | PropertyRule) -> bool:
    name, wanted = _folded(rule.name), None if rule.value is None else _folded(rule.value)
    return any(name == given and bool(said) and wanted in {None, said} for given, said in pairs)


def _is_shipped_by(line: shopify.ShippingLine, rule: ShippingLineRule) -> bool:
    wanted = ((rule.code, line.code), (rule.title, line.title), (rule.source, line.source))
    return all(text is None or _folded(text) == _folded(given) for text, given in wanted)


def _pairs(value: object) -> Iterable[Pair]:
    """Names and values of a list of {name, value}, of one such object, or of an object that maps names to values."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield _folded(item.get("name")), _folded(item.get("value"))
    elif isinstance(value, dict):
        if value.keys() == {"name", "value"}:
            yield _folded(value["name"]), _folded(value["value"])
        for name, said in value.items():
            yield _folded(name), _folded(said)


def _folded(value: object) -> str:
    """A text to compare: without outer spaces and case; yes and no as JSON writes them; "" for everything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) if abs(value) < 10**15 else ""
    return value.strip().casefold() if isinstance(value, str) else ""
