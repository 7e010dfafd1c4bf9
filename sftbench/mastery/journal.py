"""A journal of finished facts: killed at any moment, a run goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from sftbench.common.digests import canonical_json
from sftbench.common.errors import SftbenchError
from sftbench.mastery.measured import Measured, from_json, to_json


class Journal:
    """Finished facts of one card, one JSON line each, behind a line that says what made them.

    A line is on disk as soon as its fact is handed over. A last line that a kill cut short is
    dropped.

    Args:
        path: the journal's file; it lies beside the card until that is complete.
        key: digest of what makes the card (model, facts, templates, settings).

    Raises:
        SftbenchError: the file is the journal of another card, or (on entering) another process
            writes it.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self.finished: dict[str, Measured] = {}
        self._file: IO[str] | None = None
        if path.exists():
            self._recover()

    def _recover(self) -> int:
        """Read the finished facts; return the length in bytes of the whole lines."""
        # What follows the last line break is what a kill cut short.
        lines, end, _ = self._path.read_bytes().rpartition(b"\n")
        try:
            entries = [json.loads(line) for line in lines.decode().splitlines()]
            key = entries[0]["key"] if entries else self._key
            found = [from_json(entry) for entry in entries[1:]]
            self.finished = {one.fact_id: one for one in found}
        except (ValueError, KeyError, TypeError):
            raise SftbenchError(
                "is not a journal of a mastery run", where=self._path, remedy="Remove it."
            ) from None
        if key != self._key:
            raise SftbenchError(
                "belongs to a run with another model, facts, templates or settings",
                where=self._path,
                remedy="Finish that run, name another output, or remove this file.",
            )
        return len(lines) + len(end)

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+", encoding="utf-8")
        self._lock()
        whole = self._recover()  # another process may have added facts since we looked
        self._file.truncate(whole)
        if not whole:
            self._write(canonical_json({"key": self._key}))
        return self

    def _lock(self) -> None:
        """Keep other processes out until the file is closed, by us or by our end."""
        import fcntl

        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that ended just now has removed the file that we opened.
            self._path.stat()
        except OSError:
            self._file.close()
            raise SftbenchError(
                "another run is writing this card",
                where=self._path,
                remedy="Wait for it, or name another output.",
            ) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            if not self.finished:
                self.remove()  # nothing is lost, and nobody has to wonder whose it is
            self._file.close()

    def add(self, found: Measured) -> None:
        """Write down a finished fact, for good."""
        self.finished[found.fact_id] = found
        self._write(canonical_json(to_json(found)))

    def _write(self, line: str) -> None:
        assert self._file is not None, "the journal is used as a context manager"
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def remove(self) -> None:
        """Delete the journal: the card is complete."""
        self._path.unlink(missing_ok=True)
