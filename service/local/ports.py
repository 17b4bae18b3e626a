"""Free ports on loopback."""

import secrets
import socket

from service.local.identity import LocalError

# Below the range from which Linux takes the local ports of outgoing connections: a port that is kept over restarts must not be borrowed.
LOWEST, HIGHEST = 20_000, 32_000
TRIES = 100


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on `port`, not even a process that shares its port with others."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose_port(host: str = "127.0.0.1") -> int:
    """A port that is free now. Raises LocalError when none can be found."""
    for _ in range(TRIES):
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
        if is_free(host, port):
            return port
    raise LocalError(f"no free port between {LOWEST} and {HIGHEST} on {host}")
