"""A caller of the API, as a shop's own program would be: a plain HTTP connection, JSON out and in."""

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from service.local.identity import LocalError

TIMEOUT_S = 30.0


class Answer(Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Client:
    """Calls with one proof of who is calling; `bearer` None: none (a hook's proof is its signature)."""

    def __init__(self, api: str, bearer: str | None = None) -> None:
        self._host = urlsplit(api).netloc
        self._proof = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}

    def get(self, path: str, *, expect: int = 200) -> Answer:
        """Read. Raises LocalError when another status comes back."""
        return self._call("GET", path, None, {}, expect)

    def post(self, path: str, body: object, *, expect: int, headers: Mapping[str, str] | None = None) -> Answer:
        """Send `body`, bytes as they are, everything else as JSON. Raises LocalError when another status than `expect` comes back."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self._call("POST", path, content, {"Content-Type": "application/json", **(headers or {})}, expect)

    def _call(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], expect: int) -> Answer:
        connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body=content, headers={**self._proof, **headers})
            response = connection.getresponse()
            answer = Answer(
                status=response.status, headers={name.lower(): value for name, value in response.getheaders()},
                body=msgspec.json.decode(response.read()),
            )  # fmt: skip
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise LocalError(f"{method} {path} failed: {error}") from None
        finally:
            connection.close()
        if answer.status != expect:
            raise LocalError(f"{method} {path} was answered {answer.status} where the story has {expect}: {answer.body}")
        return answer
