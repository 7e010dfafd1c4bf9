"""Errors for people: what is wrong, where, and what to do about it."""

from __future__ import annotations

from pathlib import Path


class SftbenchError(Exception):
    """Something that the user can mend; the command line prints it and exits with code 2.

    Args:
        what: one sentence that says what is wrong.
        where: the file, tensor, column or flag that it was found in.
        remedy: what to do; a command where there is one.
    """

    def __init__(
        self, what: str, *, where: str | Path | None = None, remedy: str | None = None
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.remedy:
            lines.append(self.remedy)
        return "\n".join(lines)
