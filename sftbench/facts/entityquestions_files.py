"""Reads the files of EntityQuestions from a folder, a zip file or their public address."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from sftbench.common.errors import SftbenchError

ADDRESS = "https://nlp.cs.princeton.edu/projects/entity-questions/dataset.zip"
TOP = "dataset"
"""The folder that the published zip file wraps train/, dev/ and test/ in."""
MOST_BYTES = 64 * 2**20
"""Of one file. The largest that is published has 1.2 MB."""
MOST_BYTES_TOGETHER = 512 * 2**20
MOST_MEMBERS = 10_000
SECONDS = 60.0

GET_IT = (
    f"Download {ADDRESS} on a machine with a network, then name it: "
    "sftbench facts entityquestions --from dataset.zip"
)

Read = Callable[[str], bytes]
"""Takes a path such as "train/P17.train.json" and returns that file's content."""

Record = tuple[str, list[str]]
"""A question and its answers."""


@contextmanager
def opened(source: Path) -> Iterator[Read]:
    """Open a folder or a zip file that holds train/ and test/, inside dataset/ or at the top.

    Nothing is unpacked to disk.

    Raises:
        SftbenchError: no such file, not a zip file, or a zip file that is not safe to read.
    """
    if source.is_dir():
        yield _reader_of_folder(source)
        return
    if not source.exists():
        raise SftbenchError("there is no such file or folder", where=source, remedy=GET_IT)
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError) as error:
        raise SftbenchError(
            f"is neither a folder nor a zip file that can be read ({error})",
            where=source,
            remedy=GET_IT,
        ) from None
    with archive:
        yield _reader_of_zip(archive, source)


def _reader_of_folder(folder: Path) -> Read:
    top = folder if (folder / "train").is_dir() else folder / TOP

    def read(name: str) -> bytes:
        path = top / name
        try:
            if path.stat().st_size > MOST_BYTES:
                raise _too_large(path)
            return path.read_bytes()
        except FileNotFoundError:
            raise _missing(name, folder) from None
        except OSError as error:
            raise SftbenchError(f"cannot be read ({error})", where=path) from None

    return read


def _reader_of_zip(archive: zipfile.ZipFile, path: Path) -> Read:
    members = _safe_members(archive, path)
    top = "" if any(name.startswith("train/") for name in members) else f"{TOP}/"

    def read(name: str) -> bytes:
        if top + name not in members:
            raise _missing(name, path)
        try:
            with archive.open(members[top + name]) as file:
                content = file.read(MOST_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise SftbenchError(
                f"the zip file is broken at {top + name} ({error})", where=path, remedy=GET_IT
            ) from None
        except (RuntimeError, NotImplementedError) as error:  # encrypted, unknown compression
            raise SftbenchError(
                f"{top + name} cannot be unpacked ({error})", where=path, remedy=GET_IT
            ) from None
        if len(content) > MOST_BYTES:
            raise _too_large(f"{path}: {name}")
        return content

    return read


def _safe_members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name; raise where it could do harm."""
    found = [info for info in archive.infolist() if not info.is_dir()]
    if len(found) > MOST_MEMBERS:
        raise SftbenchError(
            f"holds {len(found)} files; EntityQuestions has fewer than 100", where=path
        )
    for info in found:
        # The name as it is stored: zipfile turns the separators of Windows into slashes.
        name = info.orig_filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]:
            raise SftbenchError(
                f"the zip file has a member whose path leaves the folder: {name!r}",
                where=path,
                remedy="Do not trust this file. " + GET_IT,
            )
    if sum(info.file_size for info in found) > MOST_BYTES_TOGETHER:
        raise SftbenchError(
            f"would unpack to more than {MOST_BYTES_TOGETHER // 2**20} MiB; EntityQuestions has 40",
            where=path,
            remedy=GET_IT,
        )
    members = {info.filename: info for info in found}
    if len(members) < len(found):
        raise SftbenchError("the zip file has two members of one name", where=path, remedy=GET_IT)
    return members


def _missing(name: str, where: Path) -> SftbenchError:
    return SftbenchError(
        f"there is no {name} (nor {TOP}/{name}) in it: not the files of EntityQuestions",
        where=where,
        remedy=GET_IT,
    )


def _too_large(where: str | Path) -> SftbenchError:
    return SftbenchError(f"has more than {MOST_BYTES // 2**20} MiB", where=where, remedy=GET_IT)


def records_of(content: bytes, where: str) -> list[Record]:
    """Return (question, answers) of every record of one file.

    Raises:
        SftbenchError: not UTF-8, not JSON, or a record that is not of the published form.
    """
    try:
        records = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SftbenchError(
            f"cannot be read as JSON ({str(error)[:200]})", where=where, remedy=GET_IT
        ) from None
    if not isinstance(records, list):
        raise SftbenchError("is not a list of records", where=where, remedy=GET_IT)
    for number, record in enumerate(records, 1):
        if not _is_record(record):
            raise SftbenchError(
                f"record {number} is not of the form "
                f'{{"question": text, "answers": [text, ...]}}: {str(record)[:200]}',
                where=where,
                remedy=GET_IT,
            )
    return [(record["question"], record["answers"]) for record in records]


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and _is_text(record.get("question"))
        and isinstance(record.get("answers"), list)
        and all(map(_is_text, record["answers"]))
    )


def _is_text(value: Any) -> bool:
    """Return whether a value is text that can be stored; JSON can write half a character."""
    if not isinstance(value, str) or not value.strip():
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of a file's content, for the record of what was read."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def downloaded(address: str = ADDRESS) -> Iterator[Path]:
    """Yield the published zip file in a temporary folder that goes afterwards.

    Raises:
        SftbenchError: the address cannot be reached, or sends something else.
    """
    from http.client import HTTPException
    from urllib.request import urlopen

    with tempfile.TemporaryDirectory(prefix="sftbench-") as folder:
        path = Path(folder) / "dataset.zip"
        try:
            with urlopen(address, timeout=SECONDS) as answer, path.open("wb") as file:
                size = 0
                while block := answer.read(2**20):
                    size += len(block)
                    if size > MOST_BYTES_TOGETHER:
                        raise _too_large(address)
                    file.write(block)
        except (OSError, HTTPException) as error:
            raise SftbenchError(
                f"cannot be downloaded ({error})", where=address, remedy=GET_IT
            ) from None
        yield path
