"""/openapi.json as Schemathesis reads it: what a route's answers may be."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import schemathesis
from litestar import Litestar
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api.documentation import document
from tests.probes.routes import Route

CHECKS = [
    status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance,
]  # fmt: skip

VOLATILE = {"date", "content-length", "request-id", "traceparent"}
"""Headers that differ from answer to answer."""
REQUEST_ID = re.compile(r'"request_id":"[0-9a-f]{8}-[0-9a-f]+"')
"""Made by the application; its digits may read like a mark."""


class Documented:
    """The document of an application."""

    def __init__(self, app: Litestar) -> None:
        load_all_checks()
        schema = schemathesis.openapi.from_dict(json.loads(json.dumps(document(app))))
        self._sound: set[tuple[str, str, int, tuple[str, ...], str]] = set()
        """Answers that were checked: most callers who are refused get the same one, and checking takes longer than answering."""
        self._operations = {(op.method.upper(), op.path): op for op in (result.ok() for result in schema.get_all_operations())}

    def operations(self, kind: str | None) -> list[Any]:
        """The operations that a kind of caller may use; None: all of them."""
        return [op for op in self._operations.values() if kind is None or kind in _kinds(op)]

    def check(self, answer: httpx.Response, case: Any) -> None:
        """Raises AssertionError for an answer that the document does not describe, and for a 500; a busy machine may answer 503."""
        assert answer.status_code != 500, answer.request
        try:
            case.validate_response(answer, checks=CHECKS)
        except BaseExceptionGroup as failures:  # not an Exception: it would end more than the test
            raise AssertionError(str(failures)) from None

    def wrong(self, route: Route, answer: httpx.Response) -> Iterator[str]:
        """What is wrong with the answer to a request made elsewhere."""
        operation = self._operations.get((route.method, route.path))
        if operation is None:
            return  # a page that is not in the document
        headers = tuple(f"{name}: {'' if name in VOLATILE else value}" for name, value in sorted(answer.headers.items()))
        said = (route.method, route.path, answer.status_code, headers, REQUEST_ID.sub("", answer.text))
        if said in self._sound:
            return
        try:
            self.check(answer, operation.Case(path_parameters=dict.fromkeys(re.findall(r"{(\w+)}", route.path), "x")))
        except AssertionError as error:
            yield f"{route.name}: {error}"
        else:
            self._sound.add(said)


def _kinds(operation: Any) -> set[str]:
    return {kind for alternative in operation.definition.raw.get("security", []) for kind in alternative}
