"""One piece of work, one process: several `headwater run` of the same job share its cells between them.

A claim is a lock on a file (`flock`): it goes with the process, however that ends, so nothing has to be cleared up.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "lock"


@contextmanager
def claim(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold `folder/lock` while the block runs.

    Args:
        folder: made if need be.
        wait: until nobody else holds it; else the block runs at once, without it.

    Yields:
        Whether it is held. Never False when waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
