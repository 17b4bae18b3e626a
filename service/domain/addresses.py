"""Which client a request came from, when proxies stand in front."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_HOPS: Final = 20
"""Addresses of X-Forwarded-For that are looked at, from the right."""
CLIENT_PREFIX: Final = 64
"""One client of IPv6 has a network of this length; telling its addresses apart would give it as many limits as it likes."""


def read_networks(text: str) -> tuple[Network, ...]:
    """Networks separated by commas, such as `10.0.0.0/8, ::1`. Raises ValueError, which names what is wrong."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def client_of(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's address, of IPv6 its network: the peer of the connection, unless that is a trusted proxy.

    Then it is the right-most address of the X-Forwarded-For fields that is none: what stands left of it, anybody may have written.
    """
    found = _address(peer)
    if found is None:
        return peer
    if trusted and _is_in(found, trusted):
        hops = [hop for field in forwarded for hop in field.rsplit(",", MAX_HOPS)]
        for hop in reversed(hops[-MAX_HOPS:]):
            before = _address(hop.strip())
            if before is None:
                break
            found = before
            if not _is_in(found, trusted):
                break
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found) >> (128 - CLIENT_PREFIX) << (128 - CLIENT_PREFIX), CLIENT_PREFIX)))
    return str(found)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """An address as proxies write it, perhaps with a port or in brackets; one of IPv4 inside IPv6 is that of IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
