"""The states of a piece of reusable packaging: one table, drawn in docs/packaging.md."""

from typing import Final, Literal, get_args

from service.domain.errors import InvalidState

State = Literal["registered", "shipped", "returned", "inspected", "retired", "lost"]
Fact = Literal["ship", "return", "inspect", "retire", "lose"]

STATES: Final[tuple[State, ...]] = get_args(State)
FACTS: Final[tuple[Fact, ...]] = get_args(Fact)
START: Final[State] = "registered"

TRANSITIONS: Final[dict[tuple[State, Fact], State]] = {
    ("registered", "ship"): "shipped",
    ("registered", "inspect"): "inspected",
    ("registered", "retire"): "retired",
    ("registered", "lose"): "lost",
    ("shipped", "ship"): "shipped",  # it came back and nobody said so
    ("shipped", "return"): "returned",
    ("shipped", "retire"): "retired",
    ("shipped", "lose"): "lost",
    ("returned", "ship"): "shipped",
    ("returned", "inspect"): "inspected",
    ("returned", "retire"): "retired",
    ("returned", "lose"): "lost",
    ("inspected", "ship"): "shipped",
    ("inspected", "inspect"): "inspected",
    ("inspected", "retire"): "retired",
    ("inspected", "lose"): "lost",
    ("lost", "return"): "returned",  # found
    ("lost", "ship"): "shipped",  # found by whoever ships it
    ("lost", "retire"): "retired",
    ("retired", "return"): "retired",  # it was out when it was retired
}
"""By state and fact; what is not here cannot be."""


def next_state(state: State, fact: Fact) -> State:
    """The state after a fact. Raises InvalidState where the fact cannot be."""
    found = TRANSITIONS.get((state, fact))
    if found is None:
        raise InvalidState(f"The asset is {state}: {fact!r} is not possible.")
    return found


def draw() -> str:
    """The table as a Mermaid state diagram, without a newline at its end."""
    arrows = [f"    {state} --> {after}: {fact}" for (state, fact), after in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {START}", *arrows])
