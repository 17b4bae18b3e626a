"""The routes as the application has them, with what they need by /openapi.json and by the recipes."""

import copy
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from litestar import Litestar
from litestar.routes import HTTPRoute

from service.api.documentation import document
from service.domain.roles import MAY
from tests.probes import recipes
from tests.probes.tenants import MAKERS, Caller, Tenant

Place = tuple[str, tuple[str | int, ...]]
"""Where a request names an object: ("path", (0,)), ("query", ("consumer",)) or ("body", ("order", "id"))."""


@dataclass
class Request:
    """A request that can be varied in one place."""

    method: str
    path: str
    names: list[Any]
    """Of the path's parameters, in order."""
    query: dict[str, Any]
    body: Any
    headers: dict[str, str]

    def at(self, place: Place, value: Any) -> "Request":
        """The same with another name in one place."""
        changed = copy.deepcopy(self)
        where, keys = place
        if where == "path":
            assert isinstance(keys[0], int)
            changed.names[keys[0]] = value
        elif where == "query":
            changed.query[str(keys[0])] = value
        else:
            inner = changed.body
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
        return changed

    @property
    def address(self) -> str:
        names = iter(self.names)
        return re.sub(r"\{\w+\}", lambda _: quote(str(next(names)), safe=""), self.path)


@dataclass
class Route:
    """One route. `objects` by place with their kind; `security` as /openapi.json says it."""

    method: str
    path: str
    kinds: list[str]
    queries: dict[str, str]
    body: recipes.Body | None
    security: dict[str, str]
    public: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def admits(self, caller: Caller) -> bool:
        """Whether the documented table lets this caller in."""
        needed = self.security.get(caller.kind or "")
        if needed is None:
            return False
        if caller.kind != "operator":
            return needed in caller.holds
        return needed == "signed-in" or bool(caller.holds & set(MAY[needed]))  # type: ignore[index]

    def places(self) -> dict[Place, str]:
        """Where it names an object that must be the caller's own, with the kind."""
        own = (self.method, self.path) in recipes.OWN_NAMES
        found: dict[Place, str] = {} if own else {("path", (i,)): kind for i, kind in enumerate(self.kinds)}
        found |= {("query", (name,)): kind for name, kind in self.queries.items()}
        return found | {("body", place): kind for place, kind in ((self.body.refers | self.body.filters) if self.body else {}).items()}

    def is_filter(self, place: Place) -> bool:
        """Whether the name only selects what the answer shows: nothing, if it is another's."""
        where, keys = place
        if where == "query":
            return self.method == "GET"
        return where == "body" and self.body is not None and keys in self.body.filters

    async def request(self, t: Tenant, caller: Caller, *, fresh: bool) -> Request:
        """A sound request of this caller about a tenant's objects; `fresh`: for objects made for it, which it may change."""
        names = [await t.make(kind) if fresh else t.objects[kind] for kind in self.kinds]
        body = None if self.body is None else self.body.make(t)
        said = {name: t.objects[kind] for name, kind in self.queries.items() if (self.path, name) in recipes.SAID_BY_OPERATORS}
        query = said if caller.kind == "operator" else {}
        return Request(self.method, self.path, names, query, body, dict(self.body.headers) if self.body else {})


def kinds_of(method: str, path: str) -> list[str | None]:
    """The kind of object of each path parameter; None where the recipes have no entry."""
    kinds = [recipes.PATHS.get(path[: match.end()]) for match in re.finditer(r"\{\w+\}", path)]
    instead = recipes.INSTEAD.get((method, path), {})
    return [kind if kind is None else instead.get(kind, kind) for kind in kinds]


def routes_of(app: Litestar) -> list[Route]:
    """All routes of ours, OPTIONS aside."""
    spec = document(app)
    found = []
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            if handler.fn.__module__.startswith("litestar."):
                continue  # its pages of the schema, which nobody may call
            for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                operation = spec["paths"].get(route.path_format, {}).get(method.lower(), {})
                security = {kind: needed[0] for alternative in operation.get("security", []) for kind, needed in alternative.items()}
                queries = {
                    p["name"]: recipes.QUERIES[route.path_format, p["name"]]
                    for p in operation.get("parameters", [])
                    if p["in"] == "query" and (route.path_format, p["name"]) in recipes.QUERIES
                }
                found.append(
                    Route(
                        method=method, path=route.path_format, kinds=[kind or "?" for kind in kinds_of(method, route.path_format)],
                        queries=queries, body=recipes.BODIES.get((method, route.path_format)), security=security,
                        public=not security,
                    )
                )  # fmt: skip
    return sorted(found, key=lambda r: (r.path, r.method))


def missing_recipes(app: Litestar) -> list[str]:
    """What the recipes lack for the routes there are, each with what to do about it."""
    problems = []
    spec = document(app)
    for route in routes_of(app):
        key = (route.method, route.path)
        if key in recipes.ELSEWHERE:
            continue
        for match, kind in zip(re.finditer(r"\{\w+\}", route.path), kinds_of(route.method, route.path), strict=True):
            if kind is None:
                problems.append(f"PATHS has no {route.path[: match.end()]!r}: say which kind of object {match[0]} is")
            elif kind not in MAKERS:
                problems.append(f"tenants.MAKERS has no {kind!r}: write how to make one")
        for parameter in spec["paths"].get(route.path, {}).get(route.method.lower(), {}).get("parameters", []):
            name = parameter["name"]
            if parameter["in"] == "query" and (route.path, name) not in recipes.QUERIES and name not in recipes.PLAIN_QUERIES:
                problems.append(f"QUERIES or PLAIN_QUERIES have no {(route.path, name)!r}: say which kind of object it names, if any")
        takes_body = route.method in ("POST", "PUT", "PATCH", "DELETE") and not route.public
        if takes_body and route.body is None and key not in recipes.BODYLESS:
            problems.append(f"BODIES (or BODYLESS, or ELSEWHERE) have no {key!r}: write a sound body, and what in it names objects")
    there = {(route.method, route.path) for route in routes_of(app)}
    problems += [
        f"there is no route {key!r}: take it out of the recipes"
        for key in (recipes.BODIES.keys() | recipes.BODYLESS | recipes.ELSEWHERE.keys() | recipes.INSTEAD.keys()) - there
    ]
    return problems
