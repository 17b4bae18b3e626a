"""Key sets: the public keys behind a platform's registered JWKS address (RFC 7517), fetched, bounded and remembered.

The address comes from an administrator, the answer from the network, so neither is trusted: HTTPS only, no redirects, no proxy
from the environment, the name is resolved once and the connection goes to that very address, which must be a public one,
and the answer is bounded in time and size. No database is involved, hence no transaction.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from functools import cache
from typing import Final

import httpx
from msgspec import Struct

from schemas.bounds import MAX_URL_CHARS
from service.domain.tokens import MAX_JWKS_BYTES, Algorithm, UnusableKey, VerificationKey, keys_from_jwks
from service.telemetry import traces

FETCH_TIMEOUT_S: Final = 2.0
FRESH_S: Final = 300.0
"""How long a fetched set is used without asking again: a key that a platform takes out of its set is refused after that."""
STALE_S: Final = 3_600.0
"""How long a set that can no longer be fetched is still used."""
REFETCH_S: Final = 10.0
"""An unknown kid, or a failure, makes us ask again at most this often."""
MAX_SETS: Final = 1_000
UNPRIVILEGED_PORTS: Final = range(1_024, 65_536)
"""No other service's well-known port is spoken to, such as mail or SSH."""


class KeySetUnavailable(Exception):
    """The set cannot be fetched and none is remembered; the text says why."""


class UnusableUrl(Exception):
    """The address may not be asked; the text says why."""


class _Set(Struct):
    keys: dict[str | None, VerificationKey] | None = None
    fetched_at_s: float = float("-inf")
    asked_at_s: float = float("-inf")
    why: str = ""


class KeySets:
    """The key sets that one process has fetched. Safe to use from many tasks: one fetch per address at a time."""

    def __init__(self, *, allow_loopback: bool) -> None:
        self._allow_loopback = allow_loopback
        self._sets: dict[tuple[str, Algorithm], _Set] = {}
        self._locks: dict[tuple[str, Algorithm], asyncio.Lock] = {}

    async def find(self, url: str, algorithm: Algorithm, kid: str | None) -> VerificationKey | None:
        """The key with this kid; without a kid the only key of the set. None when there is none; raises KeySetUnavailable."""
        name = (url, algorithm)
        if name not in self._sets and len(self._sets) >= MAX_SETS:
            self.forget()
        known = self._sets.setdefault(name, _Set())
        if self._must_ask(known, kid, time.monotonic()):
            async with self._locks.setdefault(name, asyncio.Lock()):
                if self._must_ask(known, kid, time.monotonic()):  # the one who held the lock may have asked for both
                    await self._ask(known, url, algorithm)
        if known.keys is None or time.monotonic() - known.fetched_at_s > STALE_S:
            raise KeySetUnavailable(known.why)
        return _choose(known.keys, kid)

    def forget(self) -> None:
        """Drop everything that is remembered."""
        self._sets.clear()
        self._locks.clear()

    @staticmethod
    def _must_ask(known: _Set, kid: str | None, now_s: float) -> bool:
        if now_s - known.asked_at_s < REFETCH_S:
            return False
        return known.keys is None or now_s - known.fetched_at_s > FRESH_S or _choose(known.keys, kid) is None

    async def _ask(self, known: _Set, url: str, algorithm: Algorithm) -> None:
        try:
            known.keys = keys_from_jwks(await fetch(url, allow_loopback=self._allow_loopback), algorithm)
            known.fetched_at_s = time.monotonic()
        except (UnusableUrl, UnusableKey, KeySetUnavailable) as error:
            known.why = str(error)
        known.asked_at_s = time.monotonic()  # not before: until then others wait for this answer


def check_url(url: str, *, allow_loopback: bool) -> httpx.URL:
    """The address, if it may be registered: https, a host, no credentials. Raises UnusableUrl.

    Plain http is for tests and development: to the loopback interface only, and only when a setting allows it.
    """
    if len(url) > MAX_URL_CHARS:
        raise UnusableUrl(f"The address has at most {MAX_URL_CHARS} characters.")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise UnusableUrl("This is not an address.") from None
    if parsed.userinfo or parsed.fragment or not parsed.host:
        raise UnusableUrl("The address needs a host, and neither credentials nor a fragment.")
    local = allow_loopback and parsed.host in ("localhost", "127.0.0.1", "::1")
    if parsed.scheme != "https" and not (parsed.scheme == "http" and local):
        raise UnusableUrl("The address must begin with https://.")
    if not local and parsed.port not in (None, 443) and parsed.port not in UNPRIVILEGED_PORTS:
        raise UnusableUrl("The address must have the port 443, or one from 1024 on.")
    return parsed


async def fetch(url: str, *, allow_loopback: bool) -> bytes:
    """The body behind the address, at most 64 KiB, within 2 s. Raises UnusableUrl or KeySetUnavailable."""
    parsed = check_url(url, allow_loopback=allow_loopback)
    with traces.span("fetch key set", kind="client") as span:
        span.set("server.address", parsed.host)
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                address = await _resolve(parsed, allow_loopback=allow_loopback)
                return await _get(parsed, address)
        except (TimeoutError, httpx.HTTPError, OSError):
            raise KeySetUnavailable(f"The key set at {parsed.host} could not be fetched within {FETCH_TIMEOUT_S:g} s.") from None


async def _resolve(url: httpx.URL, *, allow_loopback: bool) -> str:
    """An address of the host; all that the name stands for must be allowed, so that no lucky draw decides."""
    port = url.port or (443 if url.scheme == "https" else 80)
    addresses = await _look_up(url.host, port)
    if not addresses or not all(is_allowed(address, allow_loopback=allow_loopback) for address in addresses):
        raise UnusableUrl("The address leads into a private network.")
    return addresses[0]


async def _look_up(host: str, port: int) -> list[str]:
    """The addresses that the name stands for."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise UnusableUrl("The address has no host name that could be looked up.") from None
    return [str(entry[4][0]) for entry in found]


def is_allowed(address: str, *, allow_loopback: bool) -> bool:
    """Whether a connection may go to this IP address: public ones, and the loopback interface when a setting allows it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.is_loopback:
        return allow_loopback
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in _NAT64):
        return False  # an IPv4 address in disguise
    return ip.is_global and not ip.is_multicast


async def _get(url: httpx.URL, address: str) -> bytes:
    """One GET to the address, with the name in Host and in TLS, so that the certificate is checked against the name."""
    request = httpx.Request(
        "GET",
        url.copy_with(host=address),
        headers={"Host": url.netloc.decode(), "Accept": "application/json", "Accept-Encoding": "identity"},
        extensions={"sni_hostname": url.host},
    )
    async with httpx.AsyncClient(verify=_tls(), trust_env=False, follow_redirects=False, timeout=FETCH_TIMEOUT_S) as client:
        response = await client.send(request, stream=True)
        try:
            if response.status_code != 200 or "content-encoding" in response.headers:
                raise KeySetUnavailable(f"The key set at {url.host} was answered with status {response.status_code}.")
            return await _bounded(response)
        finally:
            await response.aclose()


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_JWKS_BYTES:
            raise KeySetUnavailable(f"The key set has more than {MAX_JWKS_BYTES} bytes.")
    return bytes(body)


def _choose(keys: dict[str | None, VerificationKey], kid: str | None) -> VerificationKey | None:
    if kid is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(kid)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@cache
def _tls() -> ssl.SSLContext:
    """Checks certificates against httpx's own list of authorities, on machines without one too."""
    return httpx.create_ssl_context(trust_env=False)
