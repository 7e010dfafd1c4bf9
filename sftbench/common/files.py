"""Files appear whole or not at all: write under a temporary name, then rename."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sftbench.common.errors import SftbenchError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it becomes `path`, on failure it goes.

    What an earlier process left there when it was killed goes too.

    Raises:
        SftbenchError: `path` exists, is not an empty folder, and `overwrite` is false.
    """
    require_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove_if_left(left)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        with _held(temporary):
            yield temporary
        temporary.chmod(0o755)
        require_free(path, overwrite=overwrite)  # another process may have been faster
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Mark a folder as in use, until this process ends at the latest."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: then nothing is ever cleared there
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_if_left(folder: Path) -> None:
    """Remove a temporary folder that no living process holds."""
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a file, or gone by now
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(handle)


def require_free(path: Path, *, overwrite: bool = False) -> None:
    """Raise unless a folder can be made at `path` without losing anything."""
    above = next((one for one in path.absolute().parents if one.exists()), None)
    if above is not None and not above.is_dir():
        raise SftbenchError(
            f"cannot be made: {above} is a file", where=path, remedy="Name another output."
        )
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not overwrite):
        raise SftbenchError(
            "already exists", where=path, remedy="Name another output, or remove it first."
        )


def require_free_file(path: Path) -> None:
    """Raise unless a file can be made at `path`: a folder, even an empty one, is in the way."""
    if path.is_dir():
        raise SftbenchError(
            "is a folder, and a file is to be written",
            where=path,
            remedy="Name a file, such as one in that folder.",
        )
    require_free(path)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is an error for people."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SftbenchError("there is no such file", where=path) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SftbenchError(f"cannot be read as JSON ({error})", where=path) from None


def cache_folder() -> Path:
    """Return the folder for things that can be made again ($SFTBENCH_CACHE, else per user)."""
    named = os.environ.get("SFTBENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sftbench"
