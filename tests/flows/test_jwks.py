"""Key sets from the network: only public addresses, bounded in size and time, asked again at a bounded rate."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from service.flows import jwks
from service.flows.jwks import KeySets, KeySetUnavailable, UnusableUrl


def key_set(*kids: str) -> bytes:
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    return json.dumps({"keys": [json.loads(OKPAlgorithm.to_jwk(public)) | {"kid": kid} for kid in kids]}).encode()


class Server:
    """A tiny HTTP server on the loopback interface that counts what it is asked."""

    def __init__(self) -> None:
        self.body = key_set("k1")
        self.status = "200 OK"
        self.headers = ""
        self.silent = False
        self.requests: list[bytes] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        if self.silent:
            await reader.read()  # until the client has had enough
            writer.close()
            return
        head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n{self.headers}\r\n"
        writer.write(head.encode() + self.body)
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/keys.json"
    async with listening:
        yield server


async def test_a_set_is_fetched_once_and_asked_for_an_unknown_kid_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        sets = KeySets(allow_loopback=True)
        assert all(await asyncio.gather(*(sets.find(server.url, "EdDSA", "k1") for _ in range(20))))
        assert await sets.find(server.url, "EdDSA", None) is not None
        assert len(server.requests) == 1
        server.body = key_set("k1", "k2")
        for _ in range(20):
            assert await sets.find(server.url, "EdDSA", "k2") is None
        assert len(server.requests) == 1
        monkeypatch.setattr(jwks, "REFETCH_S", 0.0)
        assert await sets.find(server.url, "EdDSA", "k2") is not None
        assert await sets.find(server.url, "EdDSA", None) is None  # two keys: the token must name one
        assert await sets.find(server.url, "RS256", "k1") is None


async def test_a_set_that_cannot_be_fetched_again_is_used_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        sets = KeySets(allow_loopback=True)
        assert await sets.find(server.url, "EdDSA", "k1")
        monkeypatch.setattr(jwks, "REFETCH_S", 0.0)
        monkeypatch.setattr(jwks, "FRESH_S", 0.0)
        server.status = "500 Oops"
        assert await sets.find(server.url, "EdDSA", "k1")
        monkeypatch.setattr(jwks, "STALE_S", 0.0)
        with pytest.raises(KeySetUnavailable):
            await sets.find(server.url, "EdDSA", "k1")


async def test_answers_are_bounded_and_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        assert await jwks.fetch(server.url, allow_loopback=True) == server.body
        assert b"accept-encoding: identity" in server.requests[0].lower()
        server.body = b" " * (jwks.MAX_JWKS_BYTES + 1)
        with pytest.raises(KeySetUnavailable, match="bytes"):
            await jwks.fetch(server.url, allow_loopback=True)
        server.body, server.status, server.headers = b"", "302 Found", f"Location: {server.url}\r\n"
        with pytest.raises(KeySetUnavailable, match="302"):
            await jwks.fetch(server.url, allow_loopback=True)
        assert len(server.requests) == 3
        server.status, server.headers, server.silent = "200 OK", "", True
        monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.1)
        with pytest.raises(KeySetUnavailable, match="within"):
            await jwks.fetch(server.url, allow_loopback=True)


async def test_the_loopback_interface_is_asked_only_when_a_setting_allows_it() -> None:
    async with serving() as server:
        for url in (server.url, server.url.replace("http:", "https:"), server.url.replace("http://127.0.0.1", "https://localhost")):
            with pytest.raises(UnusableUrl):
                await jwks.fetch(url, allow_loopback=False)
        assert server.requests == []


async def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server may answer otherwise the second time (DNS rebinding): there is no second time."""
    async with serving() as server:
        answers = [["127.0.0.1"], ["127.0.0.2"]]
        asked: list[str] = []

        async def look_up(host: str, _port: int) -> list[str]:
            asked.append(host)
            return answers[len(asked) - 1]

        monkeypatch.setattr(jwks, "_look_up", look_up)
        url = server.url.replace("127.0.0.1", "localhost")
        assert await jwks.fetch(url, allow_loopback=True) == server.body
        assert asked == ["localhost"]
        assert f"host: {url.split('/')[2]}".encode() in server.requests[0].lower()  # the name goes along, for the certificate too
        with pytest.raises(KeySetUnavailable):
            await jwks.fetch(url, allow_loopback=True)  # now it leads elsewhere, where nobody listens
        assert len(server.requests) == 1


@pytest.mark.parametrize("addresses", [["8.8.8.8", "127.0.0.1"], ["8.8.8.8", "169.254.169.254"], ["::ffff:10.0.0.1"], []])
async def test_a_name_is_refused_when_any_of_its_addresses_is_private(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return addresses

    async def never(*_: object) -> bytes:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(jwks, "_look_up", look_up)
    monkeypatch.setattr(jwks, "_get", never)
    with pytest.raises(UnusableUrl):
        await jwks.fetch("https://keys.example/jwks", allow_loopback=False)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "http://[::1]:1/", "file:///etc/passwd"]
)
async def test_a_redirect_is_never_followed(target: str) -> None:
    async with serving() as server:
        for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
            server.body, server.status, server.headers = b"", status, f"Location: {target}\r\n"
            with pytest.raises(KeySetUnavailable, match=status[:3]):
                await jwks.fetch(server.url, allow_loopback=True)


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[Any] = []

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            said = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"
            while not writer.is_closing():  # the client may go at any moment; a transport that has noticed takes no more
                writer.write(said)
                await writer.drain()
                await asyncio.sleep(0.01)  # each byte long before any timeout of a single read
                said = b" "
        writer.close()

    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.2)
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        with pytest.raises(KeySetUnavailable, match="within"):
            await jwks.fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", allow_loopback=True)
        await asyncio.gather(*handlers)  # each ends because the client has gone


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example:22/jwks",
        "https://keys.example:25/jwks",
        "https://keys.example:0/jwks",
        "https://keys.example:80/jwks",
        "https://user@keys.example/jwks",
        "https://keys.example\\@127.0.0.1/jwks",
        "http://keys.example/jwks",
        "ftp://keys.example/jwks",
        "file:///etc/passwd",
        "https://user:pass@keys.example/jwks",
        "https://keys.example/jwks#part",
        "https:///jwks",
        "keys.example/jwks",
        "https://keys.example/" + "x" * 2_048,
        "https://[::1",
        "",
    ],
)
def test_addresses_that_may_not_be_registered(url: str) -> None:
    with pytest.raises(UnusableUrl):
        jwks.check_url(url, allow_loopback=False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_private_addresses_are_never_asked(address: str) -> None:
    assert not jwks.is_allowed(address, allow_loopback=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses_are(address: str) -> None:
    assert jwks.is_allowed(address, allow_loopback=False)
