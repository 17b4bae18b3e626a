"""The table of an asset's states, and its drawing in the documentation."""

import re
from pathlib import Path

import pytest

from service.domain.asset_states import FACTS, START, STATES, TRANSITIONS, Fact, State, draw, next_state
from service.domain.errors import InvalidState

PAGE = Path(__file__).resolve().parents[2] / "docs" / "packaging.md"


def test_the_documentation_draws_the_table() -> None:
    (drawn,) = re.findall(r"^```mermaid\n(.*?)\n```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert drawn == draw()
    assert all(f"{state} --> {after}: {fact}" in drawn for (state, fact), after in TRANSITIONS.items())


def test_every_state_is_reached_from_the_start() -> None:
    reached = {START}
    for _ in STATES:
        reached |= {after for (state, _), after in TRANSITIONS.items() if state in reached}
    assert reached == set(STATES)


@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize("state", STATES)
def test_a_fact_leads_where_the_table_says_or_nowhere(state: State, fact: Fact) -> None:
    known = TRANSITIONS.get((state, fact))
    if known is None:
        with pytest.raises(InvalidState, match=f"is {state}: '{fact}'"):
            next_state(state, fact)
    else:
        assert next_state(state, fact) == known


@pytest.mark.parametrize(
    ("facts", "end"),
    [
        ("ship return inspect ship return retire", "retired"),
        ("ship lose return", "returned"),
        ("lose ship return", "returned"),
        ("ship ship return", "returned"),
        ("ship retire return", "retired"),
    ],
)
def test_lives_of_a_box(facts: str, end: str) -> None:
    state = START
    for fact in facts.split():
        state = next_state(state, fact)  # type: ignore[arg-type]
    assert state == end


@pytest.mark.parametrize("facts", ["return", "ship return return", "retire ship", "retire retire", "ship inspect", "lose inspect"])
def test_what_cannot_be(facts: str) -> None:
    *before, last = facts.split()
    state = START
    for fact in before:
        state = next_state(state, fact)  # type: ignore[arg-type]
    with pytest.raises(InvalidState):
        next_state(state, last)  # type: ignore[arg-type]
