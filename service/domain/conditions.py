"""Conditions of campaigns: CEL expressions, type-checked when saved, bounded so that none can stall a batch.

The language has no loops of its own, but functions over lists, regular expressions and concatenation multiply.
An expression is therefore refused when it breaks one of the bounds below; with them the worst expression that is
still allowed, on attributes of the greatest allowed size (8 KiB), takes tens of milliseconds
(tests/domain/test_conditions.py measures it), an ordinary one 2 µs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from cel_expr_python import cel
from msgspec import UNSET, Struct

from schemas.bounds import MAX_CONDITION_CHARS
from schemas.campaigns import Action
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest

MAX_ADDITIONS: Final = 8
MAX_COMPREHENSIONS: Final = 4
MAX_COMPREHENSION_CHARS: Final = 200
MAX_FREE_VALUES: Final = 8
MAX_PATTERNS: Final = 4
MAX_PATTERN_CHARS: Final = 100
MAX_PATTERN_SIZE: Final = 1_000
"""Characters times repetitions; a Unicode class counts as `UNICODE_CLASS_SIZE` characters."""
UNICODE_CLASS_SIZE: Final = 100

_TEXTS = cel.Type.List(cel.Type.STRING)
_FREE = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)

_EVERYWHERE: Final[dict[str, cel.Type]] = {
    "consumer.tier": cel.Type.STRING,
    "consumer.attributes": _FREE,
    "event.type": cel.Type.STRING,
    "event.occurred_at": cel.Type.TIMESTAMP,
    "event.attributes": _FREE,
    "platform.code": cel.Type.STRING,
}
_ORDER: Final[dict[str, cel.Type]] = {
    "order.id": cel.Type.STRING,
    "order.currency": cel.Type.STRING,
    "order.channel": cel.Type.STRING,
    "order.total": cel.Type.INT,
    "packaging.class": cel.Type.STRING,
    "packaging.parcels": cel.Type.INT,
}
_LINE: Final[dict[str, cel.Type]] = {
    "line.id": cel.Type.STRING,
    "line.sku": cel.Type.STRING,
    "line.gtin": cel.Type.STRING,
    "line.category": cel.Type.STRING,
    "line.merchant": cel.Type.STRING,
    "line.quantity": cel.Type.DOUBLE,
    "line.unit_price": cel.Type.INT,
    "line.amount": cel.Type.INT,
    "line.certified": cel.Type.BOOL,
    "line.schemes": _TEXTS,
}
_ITEM: Final[dict[str, cel.Type]] = {
    "item.class": cel.Type.STRING,
    "item.asset": cel.Type.STRING,
    "item.station": cel.Type.STRING,
    "item.proved": cel.Type.BOOL,
    "item.quantity": cel.Type.DOUBLE,
    "item.mass_g": cel.Type.DOUBLE,
}
_ACTIVITY: Final[dict[str, cel.Type]] = {"activity.name": cel.Type.STRING, "activity.evidence": _FREE}

NAMES: Final[dict[Action, dict[str, cel.Type]]] = {
    "purchase": _LINE | _ORDER | _EVERYWHERE,
    "packaging": _ORDER | _EVERYWHERE,
    "return": _ITEM | _EVERYWHERE,
    "activity": _ACTIVITY | _EVERYWHERE,
}
"""What a condition of each action family may name. Money is in minor units, quantities and masses are doubles."""

_ENVIRONMENTS: Final[dict[Action, cel.Env]] = {action: cel.NewEnv(variables=names) for action, names in NAMES.items()}
_SEGMENT_ENVIRONMENT: Final = cel.NewEnv(variables=_EVERYWHERE)


# Of a shop's goods, classes and channels there are few; ids, amounts, times and free objects are ever new.
_RECURRING: Final = frozenset({
    "line.sku", "line.gtin", "line.category", "line.merchant", "line.certified", "line.schemes", "order.currency", "order.channel",
    "packaging.class", "packaging.parcels", "item.class", "item.station", "item.proved",
    "activity.name", "event.type", "platform.code", "consumer.tier",
})  # fmt: skip
MAX_KNOWN: Final = 4_096
"""Values that one condition remembers; then it starts anew."""


class InvalidCondition(InvalidRequest):
    """An expression does not parse, names what is not there, has a wrong type or is too costly; the error has its position."""


class Condition(Struct, frozen=True, eq=False):
    """A checked expression, ready to be evaluated."""

    source: str
    expression: cel.Expression
    names: tuple[str, ...]
    """What it may read, sorted; only these need a value."""
    environment: cel.Env
    known: dict[tuple[object, ...], bool] | None
    """Whether it holds for values that it was asked about before; None: its values hardly ever come again."""

    def holds(self, values: Sequence[object]) -> bool:
        """Whether it is true for these values of `names`, as `evaluate` says."""
        if self.known is None:
            return self.evaluate(dict(zip(self.names, values, strict=True)))
        key = tuple([tuple(value) if type(value) is list else value for value in values])
        known = self.known.get(key)
        if known is None:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            known = self.known[key] = self.evaluate(dict(zip(self.names, values, strict=True)))
        return known

    def evaluate(self, values: Mapping[str, object]) -> bool:
        """Whether it is true for these values by name. An error at run time, such as a missing attribute, counts as false."""
        try:
            return self.expression.eval(self.environment.Activation(values)).value() is True
        except RuntimeError:  # the library's own bound of 10,000 iterations
            return False


def compile_condition(action: Action, source: str, *, pointer: str = "/when") -> Condition:
    """Check a campaign's `when` against the names of its action family.

    Raises InvalidCondition with the JSON pointer and the 0-based character position.
    """
    return _condition(_ENVIRONMENTS[action], NAMES[action], source, pointer)


def compile_segment(source: str, *, pointer: str = "/segment") -> Condition:
    """Check a campaign's `segment`, which sees only the consumer, the event and the platform."""
    return _condition(_SEGMENT_ENVIRONMENT, _EVERYWHERE, source, pointer)


def _condition(environment: cel.Env, names: Mapping[str, cel.Type], source: str, pointer: str) -> Condition:
    expression = _compile(environment, source, pointer)
    read = tuple(sorted(_names_in(source, names)))
    return Condition(source, expression, read, environment, {} if _RECURRING.issuperset(read) else None)


def _names_in(source: str, names: Mapping[str, object]) -> frozenset[str]:
    """The names that occur in a checked expression, perhaps more: texts may look like one, comments split, backticks quote one."""
    joined = "".join(source.split())
    return frozenset(names) if "//" in source or "`" in source else frozenset(name for name in names if name in joined)


# Checking ------------------------------------------------------------------------------------------------


def _compile(environment: cel.Env, source: str, pointer: str) -> cel.Expression:
    if not source.strip():
        raise _invalid(pointer, "is empty: leave it out, or write a condition", None)
    if found := _CONTROL.search(source):
        raise _invalid(pointer, "has a control character: write it as an escape such as \\u0007", found.start())
    if len(source) > MAX_CONDITION_CHARS:
        raise _invalid(pointer, f"is longer than {MAX_CONDITION_CHARS:,} characters", None)
    try:
        expression = environment.compile(source)
    except (RuntimeError, ValueError) as error:
        raise _compiler_error(source, pointer, str(error)) from None
    if expression.return_type() != cel.Type.BOOL:
        raise _invalid(pointer, f"must be true or false (bool), not {expression.return_type().name().lower()}", 0)
    for position, detail in _costs(environment, source):
        raise _invalid(pointer, detail, position)
    return expression


def _invalid(pointer: str, detail: str, position: int | None) -> InvalidCondition:
    field = FieldError(pointer=pointer, detail=detail, position=UNSET if position is None else position)
    return InvalidCondition(f"{detail} (at {pointer})", [field])


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_MIXED = re.compile(r"'\(double, int\)'|'\(int, double\)'")
_MIXED_HINT: Final = ": whole numbers and decimals do not mix, write 2.0 beside a quantity or mass and 2 beside money in minor units"


def _compiler_error(source: str, pointer: str, text: str) -> InvalidCondition:
    """The compiler's first complaint in one line, its line:column turned into a position."""
    found = _PLACE.search(text)
    if found is None:
        nested = "recursion" in text
        return _invalid(pointer, "is nested too deeply" if nested else "is not a valid expression", None)
    line, column, detail = int(found[1]), int(found[2]), found[3].strip()
    detail = detail.removesuffix("[INVALID_ARGUMENT]").replace("(in container '')", "").split(" expecting ")[0].strip()
    if "recursion" in detail:
        return _invalid(pointer, "is nested too deeply", None)
    detail = detail.replace("mismatched input '<EOF>'", "it ends too early")
    if _MIXED.search(detail):
        detail += _MIXED_HINT
    if line < 1 or column < 1:
        return _invalid(pointer, detail, None)
    before = source.split("\n")[: line - 1]
    return _invalid(pointer, detail, min(sum(len(part) + 1 for part in before) + column - 1, len(source)))


# Bounds --------------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str  # string, name, number, sign
    text: str
    position: int


_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*)
      | (?P<string>
            (?:[bB]?[rR]|[rR][bB])(?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"[^"\n]*"|'[^'\n]*')
          | [bB]?(?:\"{3}(?:\\[\s\S]|[^\\])*?\"{3}|'{3}(?:\\[\s\S]|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<name>[A-Za-z_]\w*|`[^`\n]*`)
      | (?P<number>\.?[0-9][0-9A-Za-z_.]*(?:(?<=[eE])[+-][0-9]+)?)
      | (?P<sign>.)""",
    re.VERBOSE,
)
_COMPREHENSIONS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
_COPYING: Final = frozenset({"map", "filter"})  # the library copies their result once per element
_FREE_VALUES: Final = frozenset({("event", "attributes"), ("consumer", "attributes"), ("activity", "evidence")})
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def _tokens(source: str) -> list[_Token]:
    return [_Token(found.lastgroup or "", found.group(), found.start()) for found in _TOKEN.finditer(source) if found.lastgroup != "blank"]


def _costs(environment: cel.Env, source: str) -> Iterator[tuple[int, str]]:
    """Every broken bound of an expression that compiles: position and what to do."""
    tokens = _tokens(source)
    partner = _partners(tokens)
    additions = [token for token in tokens if token.text == "+"]
    if len(additions) > MAX_ADDITIONS:
        yield additions[MAX_ADDITIONS].position, f"adds more than {MAX_ADDITIONS} times"
    patterns = [i for i in range(len(tokens) - 1) if tokens[i].text == "matches" and tokens[i + 1].text == "("]
    if len(patterns) > MAX_PATTERNS:
        yield tokens[patterns[MAX_PATTERNS]].position, f"has more than {MAX_PATTERNS} regular expressions"
    for i in patterns:
        yield from _pattern_costs(environment, tokens, i, partner[i + 1])
    calls = [i for i in range(1, len(tokens) - 1) if tokens[i - 1].text == "." and tokens[i + 1].text == "("]
    loops = [i for i in calls if tokens[i].text in _COMPREHENSIONS]
    if len(loops) > MAX_COMPREHENSIONS:
        yield tokens[loops[MAX_COMPREHENSIONS]].position, f"goes over lists more than {MAX_COMPREHENSIONS} times"
    free = [i for i in range(len(tokens) - 2) if (tokens[i].text, tokens[i + 2].text) in _FREE_VALUES and tokens[i + 1].text == "."]
    if loops and len(free) > MAX_FREE_VALUES:
        yield tokens[free[MAX_FREE_VALUES]].position, f"goes over a list and names attributes or evidence more than {MAX_FREE_VALUES} times"
    for i in loops:
        if tokens[i].text in _COPYING and _free_receiver(tokens, i - 2, partner, free):
            yield tokens[i].position, f"calls {tokens[i].text} on attributes or evidence: only all, exists and exists_one there"
        yield from _comprehension_costs(tokens, i, partner[i + 1], {*loops, *patterns, *free})


def _partners(tokens: list[_Token]) -> dict[int, int]:
    """The index of each opening bracket's closing one."""
    partner, open_ = {}, []
    for i, token in enumerate(tokens):
        if token.kind != "sign":
            continue
        if token.text in _CLOSING:
            open_.append(i)
        elif token.text in _CLOSING.values():
            partner[open_.pop()] = i
    return partner


def _free_receiver(tokens: list[_Token], last: int, partner: dict[int, int], free: list[int]) -> bool:
    """Whether the field path or literal list that ends at `last` takes anything from attributes or evidence."""
    opening = {end: start for start, end in partner.items()}
    start = last
    while True:
        start = opening.get(start, start)
        if start > 1 and tokens[start - 1].text == ".":
            start -= 2
        elif start > 0 and tokens[start].text == "[" and (tokens[start - 1].kind == "name" or tokens[start - 1].text in (")", "]")):
            start -= 1
        else:
            return any(start <= i <= last for i in free)


def _pattern_costs(environment: cel.Env, tokens: list[_Token], name: int, end: int) -> Iterator[tuple[int, str]]:
    """A regular expression must be a literal, small with its repetitions written out, and valid."""
    pattern = tokens[end - 1]
    alone = tokens[end - 2].text in ("(", ",") and (tokens[end - 2].text == ",") != (name > 0 and tokens[name - 1].text == ".")
    if pattern.kind != "string" or not alone:
        yield tokens[name].position, "takes a regular expression that is not a plain text literal"
        return
    repetitions = 1
    for low, high in re.findall(r"\{(\d+),?(\d*)\}", pattern.text):
        repetitions *= max(int(low), int(high or 0), 1)
    size = len(pattern.text) + UNICODE_CLASS_SIZE * len(re.findall(r"\\[pP]", pattern.text))
    if len(pattern.text) > MAX_PATTERN_CHARS or size * repetitions > MAX_PATTERN_SIZE:
        bounds = f"{MAX_PATTERN_CHARS} characters; times its repetitions {MAX_PATTERN_SIZE:,}, a Unicode class counts {UNICODE_CLASS_SIZE}"
        yield pattern.position, f"has a regular expression that is too large (at most {bounds})"
        return
    if environment.compile(f"''.matches({pattern.text})").eval().type() != cel.Type.BOOL:
        yield pattern.position, "has a regular expression that is not valid (RE2 syntax)"


def _comprehension_costs(tokens: list[_Token], name: int, end: int, costly: set[int]) -> Iterator[tuple[int, str]]:
    """all, exists, map, filter go over a field or a literal list; what is done for each element is short and simple."""
    here = tokens[name].position
    if tokens[name - 2].text == ")":
        yield here, f"calls {tokens[name].text} on something computed: only a field or a literal list"
    if tokens[end].position - here > MAX_COMPREHENSION_CHARS:
        yield here, f"does more for each element of {tokens[name].text} than {MAX_COMPREHENSION_CHARS} characters"
    inside = [i for i in costly if name < i < end]
    if inside:
        what = f"uses {tokens[min(inside)].text} within {tokens[name].text}"
        yield tokens[min(inside)].position, f"{what}: neither lists, regular expressions, attributes nor evidence there"
