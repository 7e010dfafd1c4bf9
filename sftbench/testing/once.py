"""A folder that is made once, whoever asks: by several processes, by reruns, after a kill."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds this file's lock, and hold it; a kill lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def made_once(folder: Path, make: Callable[[Path], object], *, done: str | None = None) -> Path:
    """Return a folder that `make` fills, and that is there already the next time.

    Args:
        folder: whose name says all that it is made of, such as a digest.
        make: makes the folder, whole or not at all (or so that it can go on, see `done`).
        done: a file in it that is written last; None if the folder appears whole.
    """
    with locked(folder.with_name(f".{folder.name}.lock")):
        if not (folder / done if done else folder).exists():
            make(folder)
    return folder
