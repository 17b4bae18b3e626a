"""Password hashing, which is slow and takes 64 MiB on purpose: in threads, few at a time, and not many waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from secrets import token_bytes
from typing import Final, TypeVar

from service.domain import secrets
from service.domain.errors import Overloaded

PARALLEL: Final = 2
MAX_WAITING: Final = 32
"""A hash takes tens of milliseconds: whoever comes later would wait for more than half a second."""

T = TypeVar("T")


class _Work:
    """Threads of their own, and how many wait for them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="password")
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise Overloaded("Too many sign in at the moment; try again in a moment.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


_work = _Work()


async def hash_password(plain: str) -> str:
    """The password's argon2id hash with a new salt. Raises Overloaded."""
    salt = token_bytes(secrets.SALT_BYTES)
    return await _work.run(lambda: secrets.hash_password(plain, salt=salt))


async def is_password(plain: str, *, hashed: str | None) -> bool:
    """Whether this is the password behind the hash; without a hash no, after as much work. Raises Overloaded."""
    against = secrets.hash_of_nobody() if hashed is None else hashed
    return await _work.run(lambda: secrets.verify_password(plain, hashed=against))
