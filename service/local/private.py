"""Files that only their owner can read, written so that they are whole or not there."""

import os
from pathlib import Path
from typing import IO

from service.local.identity import LocalError


def open_private(path: Path) -> IO[bytes]:
    """A new file with mode 0600. Raises LocalError when something is there already or it cannot be written."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise LocalError(f"{path} is there already; nothing is overwritten") from None
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}") from None


def sync_folder_of(path: Path) -> None:
    """Make it outlive a power cut that a file or directory was created or renamed."""
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
