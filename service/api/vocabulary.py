"""Packaging classes and kinds of activities: the reference lists, and a program's own beside them."""

from typing import Any, Final

from litestar import Request, get, patch, post
from litestar.params import FromPath

from schemas.activities import ActivityKindAnswer, ActivityKindBody, ActivityKindPatch
from schemas.packaging_classes import PackagingClassAnswer, PackagingClassBody, PackagingClassPatch
from schemas.pages import Page
from service.api.access import proven
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, page_of, read_cursor
from service.api.database import connection
from service.domain.errors import NotFound
from service.domain.roles import MAY
from service.flows import vocabulary

CLASSES: Final = ["Packaging classes"]
ACTIVITIES: Final = ["Activities"]

AnyRequest = Request[Any, Any, Any]


# Packaging classes ---------------------------------------------------------------------------------------


@post("/v1/packaging/classes", tags=CLASSES, opt={"body": PackagingClassBody, "answer": PackagingClassAnswer})
async def create_class(request: AnyRequest) -> PackagingClassAnswer:
    """Add a packaging class of the program's own: events can name it at once."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, PackagingClassBody)
    async with connection(request) as conn:
        return await vocabulary.create_class(conn, body, program=caller.program, change=change_by(caller))


@get("/v1/packaging/classes", tags=CLASSES, opt={"answer": Page[PackagingClassAnswer]})
async def list_classes(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[PackagingClassAnswer]:
    """List the packaging classes that events may name by code: the reference list and the program's own, retired ones too."""
    program = proven(request).program
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await vocabulary.packaging_classes_page(conn, program=program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.code)


@get("/v1/packaging/classes/{code:str}", tags=CLASSES, opt={"answer": PackagingClassAnswer})
async def read_class(request: AnyRequest, code: FromPath[str]) -> PackagingClassAnswer:
    """Read one packaging class: what it does, what proves it, whether it counts as disposable plastic."""
    program = proven(request).program
    async with connection(request) as conn:
        return await vocabulary.packaging_class(conn, _code(code), program=program)


@patch("/v1/packaging/classes/{code:str}", tags=CLASSES, opt={"body": PackagingClassPatch, "answer": PackagingClassAnswer})
async def change_class(request: AnyRequest, code: FromPath[str]) -> PackagingClassAnswer:
    """Change a class of the program's own, or retire it (`active` false): it is never deleted."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, PackagingClassPatch)
    async with connection(request) as conn:
        return await vocabulary.change_class(conn, _code(code), body, program=caller.program, change=change_by(caller))


# Activities ----------------------------------------------------------------------------------------------


@post("/v1/activity-kinds", tags=ACTIVITIES, opt={"body": ActivityKindBody, "answer": ActivityKindAnswer})
async def create_kind(request: AnyRequest) -> ActivityKindAnswer:
    """Add an activity of the program's own, with a JSON Schema of its evidence and what of it earns once: events can name it at once."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, ActivityKindBody)
    async with connection(request) as conn:
        return await vocabulary.create_kind(conn, body, program=caller.program, change=change_by(caller))


@get("/v1/activity-kinds", tags=ACTIVITIES, opt={"answer": Page[ActivityKindAnswer]})
async def list_kinds(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[ActivityKindAnswer]:
    """List the activities that events may name by code: those that are built in and the program's own, retired ones too."""
    program = proven(request).program
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await vocabulary.kinds_page(conn, program=program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.code)


@get("/v1/activity-kinds/{code:str}", tags=ACTIVITIES, opt={"answer": ActivityKindAnswer})
async def read_kind(request: AnyRequest, code: FromPath[str]) -> ActivityKindAnswer:
    """Read one activity: the schema of its evidence, what it needs, what earns once."""
    program = proven(request).program
    async with connection(request) as conn:
        return await vocabulary.kind(conn, _code(code), program=program)


@patch("/v1/activity-kinds/{code:str}", tags=ACTIVITIES, opt={"body": ActivityKindPatch, "answer": ActivityKindAnswer})
async def change_kind(request: AnyRequest, code: FromPath[str]) -> ActivityKindAnswer:
    """Change an activity of the program's own, or retire it (`active` false): it is never deleted, and what it claims stays."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, ActivityKindPatch)
    async with connection(request) as conn:
        return await vocabulary.change_kind(conn, _code(code), body, program=caller.program, change=change_by(caller))


def _code(code: str) -> str:
    """A code from the path. Raises NotFound for what nothing can be called."""
    if not code.isascii() or not code.isprintable():
        raise NotFound("There is nothing of this name.")
    return code


routes = [create_class, list_classes, read_class, change_class, create_kind, list_kinds, read_kind, change_kind]
