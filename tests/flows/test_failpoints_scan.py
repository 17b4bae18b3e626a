"""Every step of a flow that writes is followed by a failpoint: this reads the code of service/flows and tells where one is missing.

A step is a call of a function of service/store that writes, of another function of the flows that does, or a push to Redis. Between two
steps of a function stands a failpoint; so does one between a transaction's last step and its COMMIT.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import failpoints
from service.settings import SettingsError, load_settings

SERVICE = Path(failpoints.__file__).parent
FLOWS, STORE = SERVICE / "flows", SERVICE / "store"
OUTSIDE = {"push", "forget"}
"""Of the projection: what happens outside of PostgreSQL."""
_WRITES = re.compile(r"\b(INSERT INTO|DELETE FROM|UPDATE \w+ (\w+ )?\n?\s*SET)")

ONE_TRANSACTION = (
    "one transaction and nothing after it, by an operator, a platform's owner or a command: whole or absent, and repeated by hand"
)
EXEMPT_FILES = {
    "administer.py": ONE_TRANSACTION,
    "assets.py": ONE_TRANSACTION,
    "causes.py": ONE_TRANSACTION + "; what redemptions count there redeem.counted follows",
    "check_recent.py": "an alert is written again by the next look, which goes on from where the last one got",
    "client_credentials.py": "a token that nobody heard of is never used, and ends by itself",
    "fraud_lists.py": ONE_TRANSACTION,
    "fraud_labels.py": ONE_TRANSACTION,
    "fraud_models.py": ONE_TRANSACTION,
    "fraud_policy.py": ONE_TRANSACTION,
    "impact.py": ONE_TRANSACTION,
    "migrate.py": "one transaction a file, tests/local/test_migrations.py stops it in the middle",
    "operators.py": ONE_TRANSACTION,
    "packing.py": "inside the transaction of receive.py: its steps commit with those around it",
    "plastics.py": "rows under their own ids, one transaction a batch: whole or absent, and safe to repeat",
    "privacy_requests.py": "each step is one transaction, found again by its row; what it erases ends at the failpoints of erase.py",
    "registries.py": ONE_TRANSACTION,
    "reward_catalogue.py": ONE_TRANSACTION,
    "stations.py": ONE_TRANSACTION,
    "vocabulary.py": ONE_TRANSACTION,
}
"""Flows without failpoints, and why none is needed."""
EXEMPT_STEPS = {
    ("receive.py", "_pick_up"): (2, "three statements of one transaction; receive.parked and receive.picked_up stand around them"),
    ("receive.py", "_forget_declared"): (2, "the end of a transaction; declare.written and declare.forgotten stand around them"),
    ("receive.py", "_declare_unapplied"): (
        3,
        "parks, and marks what it parked: declare.registered and declare.unapplied stand around them",
    ),
    ("openings.py", "_write"): (1, "closing an account that was opened in vain takes a race that no request can bring about"),
    ("campaigns.py", "_fill_counters"): (2, "counters of one change, which campaigns.counted follows"),
    ("erase.py", "_scrub_some"): (
        3,
        "hashes, waiting returns, reviews and how far it has come: scrub.events and scrub.noted stand around them",
    ),
    ("erase.py", "scrub_parked"): (2, "statements of one transaction; its callers go on from there"),
    ("retention.py", "_catch_up"): (2, "one transaction, which retention.caught_up follows"),
    ("retention.py", "_parked"): (1, "one statement a transaction, which retention.parked follows"),
    ("links.py", "_move_pending"): (1, "two halves of one movement; a failpoint follows each call"),
    ("warn.py", "_look_through_some"): (1, "where the policy warns of nothing one statement is all of the transaction"),
    ("erase.py", "place_hold"): (2, ONE_TRANSACTION),
    ("erase.py", "lift_hold"): (2, ONE_TRANSACTION),
}
"""Pairs of steps of a function without a failpoint between them: how many, and why. One more is told."""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def functions(tree: ast.AST) -> dict[str, ast.AsyncFunctionDef | ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}


def store_writers() -> dict[str, set[str]]:
    """Module of service/store → its functions that write."""
    found = {}
    for path in STORE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value is not None
            and _WRITES.search(ast.unparse(node.value).replace("\\n", "\n"))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        writers = {
            name
            for name, function in functions(tree).items()
            if any(isinstance(node, ast.Name) and node.id in statements for node in ast.walk(function))
            or any(
                isinstance(node, ast.Constant) and isinstance(node.value, str) and _WRITES.search(node.value) for node in ast.walk(function)
            )
        }
        found[path.stem] = _closed(writers, functions(tree))
    return found


def _closed(writers: set[str], among: dict[str, ast.AsyncFunctionDef | ast.FunctionDef]) -> set[str]:
    """With whoever of the same module calls them."""
    while True:
        more = {
            name
            for name, function in among.items()
            if name not in writers and any(isinstance(c.func, ast.Name) and c.func.id in writers for c in calls(function))
        }
        if not more:
            return writers
        writers = writers | more


class Flow:
    """One file of service/flows: which of its calls are steps."""

    def __init__(self, path: Path, writers: dict[str, set[str]]) -> None:
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions = functions(self.tree)
        self._writers = writers
        self._modules: dict[str, str] = {}
        self._names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module == "service.store":
                self._modules |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("service.store."):
                module = str(node.module).rpartition(".")[2]
                self._names |= {alias.asname or alias.name for alias in node.names if alias.name in writers.get(module, ())}
        self._own: set[str] = set()
        while True:
            more = {name for name, f in self.functions.items() if name not in self._own and any(self.step(c) for c in calls(f))}
            if not more:
                break
            self._own |= more

    def step(self, call: ast.Call) -> str | None:
        """What a call writes, in words; None: nothing."""
        match call.func:
            case ast.Name(id=name) if name in self._names or name in self._own:
                return name
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name in self._writers.get(self._modules.get(module, ""), ()):
                return f"{module}.{name}"
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in self._own:
                return name
            case ast.Attribute(value=ast.Name(id="packing" | "erase"), attr="write" | "erase_names" | "scrub_parked" as name):
                return name
            case ast.Attribute(value=value, attr=name) if name in OUTSIDE and ast.unparse(value).endswith("projection"):
                return f"projection.{name}"
        return None


class Walk:
    """Reads a function as it runs: `open_` is the step that no failpoint has followed so far."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.missing: list[str] = []

    def block(self, body: list[ast.stmt], open_: str | None, *, committing: bool) -> str | None:
        for statement in body:
            open_ = self._statement(statement, open_, committing=committing)
        return open_

    def _statement(self, statement: ast.stmt, open_: str | None, *, committing: bool) -> str | None:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            return open_
        blocks = [b for name in ("body", "orelse", "finalbody") if (b := getattr(statement, name, None))]
        blocks += [handler.body for handler in getattr(statement, "handlers", [])]
        heads = (
            [statement]
            if not blocks
            else [node for node in ast.iter_child_nodes(statement) if not isinstance(node, ast.stmt | ast.ExceptHandler)]
        )
        for head in heads:
            open_ = self._expressions(head, open_, statement.lineno)
        if isinstance(statement, ast.AsyncWith) and any(
            "transaction()" in ast.unparse(i) or "transaction(readonly" in ast.unparse(i) for i in statement.items
        ):
            left = self.block(statement.body, open_, committing=True)
            if left is not None and left != open_:
                self.missing.append(f"line {statement.lineno}: none between {left} and COMMIT")
            return left
        if isinstance(statement, ast.Return) and committing and open_ is not None and not self._returns_a_step(statement):
            self.missing.append(f"line {statement.lineno}: none between {open_} and COMMIT")
        if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break):
            return None  # nothing of this function comes after it
        ends = [self.block(body, open_, committing=committing) for body in blocks]
        if not blocks:
            return open_
        return next((end for end in ends if end is not None), open_ if isinstance(statement, ast.If) and not statement.orelse else None)

    def _returns_a_step(self, statement: ast.Return) -> bool:
        """What is returned may be a function that has its own failpoint before it returns."""
        return any(isinstance(c.func, ast.Name) and c.func.id in self._flow.functions for c in calls(statement))

    def _expressions(self, head: ast.AST, open_: str | None, line: int) -> str | None:
        for call in sorted(calls(head), key=lambda c: (c.end_lineno or 0, c.end_col_offset or 0)):
            if ast.unparse(call.func) == "failpoints.at":
                open_ = None
            elif (step := self._flow.step(call)) is not None:
                if open_ is not None:
                    self.missing.append(f"line {line}: none between {open_} and {step}")
                open_ = step if not self._ends_with_one(call) else None
        return open_

    def _ends_with_one(self, call: ast.Call) -> bool:
        """Whether the function that is called says so itself: its last line but the return is a failpoint."""
        name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if (function := self._flow.functions.get(name)) is None:
            return False
        last = [s for s in function.body if not isinstance(s, ast.Return)][-1]
        return isinstance(last, ast.Expr) and "failpoints.at" in ast.unparse(last)


def missing(path: Path, writers: dict[str, set[str]]) -> dict[str, list[str]]:
    """Function → where a failpoint is missing."""
    flow = Flow(path, writers)
    found = {}
    for name, function in flow.functions.items():
        walk = Walk(flow)
        walk.block(function.body, None, committing=False)
        if walk.missing:
            found[name] = walk.missing
    return found


WRITERS = store_writers()


@pytest.mark.parametrize("path", sorted(FLOWS.glob("*.py")), ids=lambda path: path.name)
def test_between_two_steps_stands_a_failpoint(path: Path) -> None:
    found = missing(path, WRITERS)
    if path.name in EXEMPT_FILES:
        assert found, "this exemption is not needed any more"
        return
    for (file, function), (pairs, _) in EXEMPT_STEPS.items():
        if file == path.name:
            assert len(found.pop(function, [])) == pairs, function
    assert found == {}


def test_each_name_stands_in_the_code_once() -> None:
    used = [
        ast.literal_eval(call.args[0])
        for folder in (SERVICE, SERVICE.parent / "workers")
        for path in folder.rglob("*.py")
        for call in calls(ast.parse(path.read_text(encoding="utf-8")))
        if ast.unparse(call.func) == "failpoints.at"
    ]
    assert sorted(used) == sorted(failpoints.NAMES)


def test_only_a_test_may_arm_one() -> None:
    urls = {
        "GREENPOINTS_DATABASE_URL": "postgresql://x", "GREENPOINTS_BALANCE_REDIS_URL": "redis://x", "GREENPOINTS_QUEUE_REDIS_URL": "redis://x",
    }  # fmt: skip
    armed = urls | {"GREENPOINTS_FAILPOINTS": "settle.locked"}
    with pytest.raises(SettingsError, match="GREENPOINTS_FAILPOINTS ends the process on purpose and is for tests only"):
        load_settings(armed)
    with pytest.raises(SettingsError, match=r"GREENPOINTS_FAILPOINTS: there is no failpoint 'nowhere'"):
        load_settings(armed | {"GREENPOINTS_ENVIRONMENT": "test", "GREENPOINTS_FAILPOINTS": "nowhere"})
    assert load_settings(armed | {"GREENPOINTS_ENVIRONMENT": "test"}).failpoints == "settle.locked"
    assert load_settings(urls).failpoints == ""


def test_what_a_setting_arms() -> None:
    assert failpoints.read("") == {}
    assert failpoints.read("settle.locked, mend.read:3") == {"settle.locked": 1, "mend.read": 3}
    for wrong in ("nowhere", "settle.locked:0", "settle.locked:x", "settle.locked:-1", "settle.locked:²"):
        with pytest.raises(ValueError, match=r"failpoint|colon"):
            failpoints.read(wrong)
