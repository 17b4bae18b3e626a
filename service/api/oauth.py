"""The token endpoint for platforms that want OAuth 2 client credentials (RFC 6749 §4.4); errors as §5.2 says."""

import base64
import binascii
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from litestar import Request, Response, post
from msgspec import UNSET, Meta, UnsetType

from schemas.base import Body
from schemas.bounds import MAX_FORM_BYTES, MAX_FORM_FIELDS
from service.api import refusals
from service.api.bodies import raw_headers, read_body
from service.api.database import connection
from service.domain.errors import RateLimited, Unauthenticated
from service.flows.client_credentials import Issued, ScopeRefused, TooManyTokens, UnknownClient, issue

TAGS: Final = ["Platforms"]
FORM: Final = b"application/x-www-form-urlencoded"
RETRY_AFTER_S: Final = 60


class TokenForm(Body, frozen=True, kw_only=True):
    """Form-encoded. Client id and secret stand here or, better, in an Authorization header (Basic); not in both."""

    grant_type: Literal["client_credentials"]
    client_id: Annotated[str | UnsetType, Meta(description="The platform's code.")] = UNSET
    client_secret: Annotated[str | UnsetType, Meta(description="One of the platform's API keys.")] = UNSET
    scope: Annotated[str | UnsetType, Meta(description="Space-separated; without it, all that the key may do.")] = UNSET


class TokenAnswer(Body, frozen=True, kw_only=True):
    """An access token, to be sent as `Authorization: Bearer …` wherever an API key is; `expires_in` in seconds."""

    access_token: str
    expires_in: int
    scope: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a type


class OAuthError(Body, frozen=True, kw_only=True):
    """RFC 6749 §5.2."""

    error: str
    error_description: str


class _Refused(Exception):
    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


@post("/v1/oauth/token", tags=TAGS, status_code=200, opt={"form": TokenForm, "answer": TokenAnswer, "error": OAuthError})
async def issue_token(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Get a short-lived access token for a platform's API key (client credentials)."""
    try:
        client, secret, scopes = await _read(request)
        try:
            async with connection(request) as conn:
                issued = await issue(conn, client=client, secret=secret, scopes=scopes)
        except UnknownClient:
            raise _Refused("invalid_client", "The client is unknown, or its key has expired or was revoked.", 401) from None
        except ScopeRefused:
            raise _Refused("invalid_scope", "A scope does not exist, or the key lacks it.") from None
        except TooManyTokens:
            raise _Refused("temporarily_unavailable", "The key has too many tokens: keep one until it expires.", 429) from None
    except _Refused as refused:
        if refused.status in (401, 429):
            kind = Unauthenticated if refused.status == 401 else RateLimited
            refusals.note(kind(refused.description).about("client"))
        return _refuse(refused, basic=b"authorization" in raw_headers(request))
    return _answer(issued)


async def _read(request: Request[Any, Any, Any]) -> tuple[str, str, list[str]]:
    """Client id, client secret and the scopes that are asked for."""
    headers = raw_headers(request)
    content_type = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    if content_type != FORM:
        raise _Refused("invalid_request", "Send application/x-www-form-urlencoded.")
    try:
        fields = parse_qsl(
            (await read_body(request, MAX_FORM_BYTES)).decode("utf-8"),
            keep_blank_values=True,
            max_num_fields=MAX_FORM_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise _Refused("invalid_request", "The body cannot be read as a form.") from None
    form = dict(fields)
    if len(form) != len(fields):
        raise _Refused("invalid_request", "A parameter stands there twice.")
    grant_type = form.get("grant_type")
    if not grant_type:
        raise _Refused("invalid_request", "grant_type is missing.")
    if grant_type != "client_credentials":
        raise _Refused("unsupported_grant_type", "Only client_credentials is supported.")
    client, secret = _client(headers.get(b"authorization"), form)
    return client, secret, form.get("scope", "").split()


def _client(authorization: bytes | None, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from the header or from the form."""
    if authorization is None:
        if not form.get("client_id") or not form.get("client_secret"):
            raise _Refused("invalid_client", "Send client id and secret, by Basic authentication or in the form.", 401)
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise _Refused("invalid_request", "Send the client's secret once: in the header or in the form.")
    scheme, _, encoded = authorization.partition(b" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        text = ""
    name, colon, secret = text.partition(":")
    if scheme.lower() != b"basic" or not colon:
        raise _Refused("invalid_client", "The Authorization header must be Basic with client id and secret.", 401)
    client = unquote_plus(name)
    if form.get("client_id", client) != client:
        raise _Refused("invalid_request", "The client ids of header and form differ.")
    return client, unquote_plus(secret)


def _answer(issued: Issued) -> Response[bytes]:
    answer = TokenAnswer(access_token=issued.token, expires_in=issued.expires_in_s, scope=" ".join(issued.scopes))
    return _response(msgspec.json.encode(answer), 200, {})


def _refuse(refused: _Refused, *, basic: bool) -> Response[bytes]:
    headers = {}
    if refused.status == 401 and basic:
        headers["WWW-Authenticate"] = 'Basic realm="greenpoints"'
    if refused.status == 429:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return _response(msgspec.json.encode(OAuthError(error=refused.error, error_description=refused.description)), refused.status, headers)


def _response(body: bytes, status: int, headers: dict[str, str]) -> Response[bytes]:
    """Tokens are kept by nobody on the way (RFC 6749 §5.1)."""
    return Response(
        content=body, status_code=status, media_type="application/json",
        headers={"Cache-Control": "no-store", "Pragma": "no-cache"} | headers,
    )  # fmt: skip


routes = [issue_token]
