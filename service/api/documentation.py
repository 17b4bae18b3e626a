"""/openapi.json and /docs, made from the routes themselves: their types, docstrings and refusals."""

import html
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from schemas.problems import Problem
from service.api.access import ACCESS, Access
from service.api.callers import PROGRAM_HEADER
from service.api.problems import PROBLEMS
from service.domain.roles import MAY

CONFIG = OpenAPIConfig(
    title="greenpoints",
    version="1",
    description="Points for green consumption: report events, read balances, run campaigns.",
    path="/_schema",
    render_plugins=(),
    use_handler_docstrings=True,
    components=Components(
        security_schemes={
            "platform": SecurityScheme(type="http", scheme="bearer", description="A platform's API key, gpk_…"),
            "consumer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="A token that a platform signed"),
            "station": SecurityScheme(type="http", scheme="bearer", description="A collection station's key, gps_…"),
            "operator": SecurityScheme(type="http", scheme="bearer", description="An operator's token, gpo_…"),
        }
    ),
)
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
REF = "#/components/schemas/{name}"
WITH_BODY = ("POST", "PATCH", "PUT", "DELETE")


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    return document(request.app)


@get("/docs", include_in_schema=False, media_type="text/html")
async def docs(request: Request[Any, Any, Any]) -> Response[str]:
    """The same for people: every route with its parameters, body and answer. No scripts, nothing from elsewhere."""
    return Response(content=_page(document(request.app)), media_type="text/html; charset=utf-8")


def document(app: Litestar) -> dict[str, Any]:
    """Litestar's document, with the bodies and answers that our handlers name in `opt`. Made once.

    `body`, `answer` and `query` are types, `also` holds further statuses that come with the same answer. `error` is the type of refusals
    of a route whose standard wants them so; some are problems all the same.
    """
    made: dict[str, Any] | None = getattr(app.state, "openapi_document", None)
    if made is None:
        made = app.state.openapi_document = _document(app)
    return made


def _document(app: Litestar) -> dict[str, Any]:
    spec: dict[str, Any] = app.openapi_schema.to_schema()
    spec["openapi"] = "3.1.0"
    types = [Problem]
    used: list[tuple[dict[str, Any], Any, str, Any, Iterator[str], tuple[int, ...], Any]] = []
    queries: list[tuple[dict[str, Any], Any]] = []
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in getattr(handler, "http_methods", ()):
                operation = spec["paths"].get(route.path_format, {}).get(method.lower())
                if operation is not None:
                    form, answer = handler.opt.get("form"), handler.opt.get("answer")
                    body = handler.opt.get("body", form)
                    error = handler.opt.get("error")
                    types += [t for t in (body, answer, error) if t is not None]
                    access = ACCESS.get((method, route.path_format), Access())
                    media = JSON if form is None else FORM
                    used.append((operation, body, media, answer, _refusals(method, access), handler.opt.get("also", ()), error))
                    _document_access(operation, access)
                    if (query := handler.opt.get("query")) is not None:
                        queries.append((operation, query))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    named = dict(zip([repr(t) for t in types], schemas, strict=True))
    problem = {"content": {"application/problem+json": {"schema": named[repr(Problem)]}}}
    for operation, body, media, answer, refusals, also, error in used:
        if body is not None:
            operation["requestBody"] = {"required": True, "content": {media: {"schema": named[repr(body)]}}}
        _document_answers(operation, None if answer is None else named[repr(answer)], also)
        conditional = any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ()))
        for status in (*refusals, *(["412"] if conditional else ())):
            operation["responses"].setdefault(status, {"description": _codes(int(status)), **problem})
            if error is not None:
                operation["responses"][status]["content"] = problem["content"] | {JSON: {"schema": named[repr(error)]}}
    for operation, query in queries:
        operation.setdefault("parameters", []).extend(_parameters(query))
    spec.setdefault("components", {}).setdefault("schemas", {}).update(components)
    return spec


def _document_answers(operation: dict[str, Any], schema: dict[str, Any] | None, also: Iterable[int]) -> None:
    """The answers that are no refusals; what Litestar says of others is not what we answer."""
    answers = {status: r for status, r in operation["responses"].items() if status.startswith("2")}
    for response in answers.values():
        if schema is not None:
            response["content"] = {"application/json": {"schema": schema}}
    for status in also:
        answers[str(status)] = next(iter(answers.values())) | {"description": HTTPStatus(status).phrase}
    operation["responses"] = answers


def _refusals(method: str, access: Access) -> Iterator[str]:
    """The statuses of problems that a route can answer."""
    if not access.anybody:
        yield from ("401", "403", "404", "422", "429")
        if method in WITH_BODY:
            yield from ("400", "409", "413", "415")
    elif method in WITH_BODY:  # its handler is what proves somebody
        yield from ("400", "401", "404", "413", "415", "422", "429")
    yield from ("500", "503")


def _codes(status: int) -> str:
    """What a status means: the codes that come with it."""
    return " or ".join(f"`{code}`" for code, (own, _) in PROBLEMS.items() if own == status)


def _document_access(operation: dict[str, Any], access: Access) -> None:
    """Who may call: as `security` for machines, as a sentence for people, with the header that chooses an operator's program."""
    security = [
        {kind: [needed]} for kind in ("platform", "consumer", "station", "operator") if (needed := getattr(access, kind)) is not None
    ]
    if access.signature:
        who = "Whoever signed the body as the hook demands."
    elif not security:
        who = "Anybody."
    else:
        operation["security"] = security
        who = "; ".join(_who(access)) + "."
    if access.operator is not None:
        operation.setdefault("parameters", []).append(_PROGRAM)
    operation["description"] = f"{operation.get('description') or operation.get('summary') or ''}\n\nCallers: {who}"


def _who(access: Access) -> Iterator[str]:
    if access.platform is not None:
        yield f"platforms whose key has the scope {access.platform}"
    if access.consumer is not None:
        yield f"consumers whose token has the scope {access.consumer}"
    if access.station is not None:
        yield "collection stations"
    if access.operator == "signed-in":
        yield "all operators"
    elif access.operator is not None:
        yield f"operators with the role {' or '.join(MAY[access.operator])}"


_PROGRAM = {
    "name": PROGRAM_HEADER,
    "in": "header",
    "required": False,
    "description": "The code of the program, for operators of several.",
    "schema": {"type": "string"},
}


def _parameters(query: type[msgspec.Struct]) -> Iterator[dict[str, Any]]:
    """The fields of a query's Struct as parameters."""
    (shape,), found = msgspec.json.schema_components([query], ref_template=REF)
    for name, schema in found[shape["$ref"].rsplit("/", 1)[-1]]["properties"].items():
        yield {"name": name, "in": "query", "required": False, "description": schema.pop("description", ""), "schema": schema}


def _page(spec: dict[str, Any]) -> str:
    sections = []
    for path, operations in sorted(spec["paths"].items()):
        for method, operation in operations.items():
            if isinstance(operation, dict) and "responses" in operation:
                sections.append(_section(method, path, operation))
    return _PAGE.format(
        title=html.escape(spec["info"]["title"]), about=html.escape(spec["info"]["description"]), sections="".join(sections)
    )


def _section(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{html.escape(p['name'])}</code> ({html.escape(p['in'])}) {html.escape(p.get('description') or '')}</li>"
        for p in operation.get("parameters", [])
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answers = [
        (status, content["schema"])
        for status, response in operation["responses"].items()
        if status.startswith("2") and (content := response.get("content", {}).get("application/json")) and "schema" in content
    ]
    return (
        f"<section><h2><b>{method.upper()}</b> <code>{html.escape(path)}</code></h2>"
        f"<p>{html.escape(operation.get('description') or operation.get('summary') or '')}</p>"
        + (f"<ul>{parameters}</ul>" if parameters else "")
        + (f"<p>Body: {_type(body)}</p>" if body else "")
        + "".join(f"<p>{status}: {_type(schema)}</p>" for status, schema in answers)
        + "</section>"
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"<code>{html.escape(schema['$ref'].rsplit('/', 1)[-1])}</code>"
    if "anyOf" in schema:
        return " or ".join(_type(s) for s in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return f"<code>{html.escape(str(schema.get('type', 'any')))}</code>"


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} API</title><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1c2b22;background:#fbfdfb}}
section{{border-top:1px solid #d6e4da;padding:.5rem 0}}h2{{font-size:1.05rem;margin:.6rem 0 .2rem}}b{{color:#1d7a46}}
code{{background:#eef5f0;padding:.1em .3em;border-radius:3px}}p,ul{{margin:.3rem 0}}
</style></head><body><h1>{title}</h1><p>{about} The machine-readable form is <a href="/openapi.json">/openapi.json</a>; errors are
RFC 9457 problem documents; times are RFC 3339; points are whole numbers; money is a decimal string.</p>{sections}</body></html>"""

routes = [openapi, docs]
