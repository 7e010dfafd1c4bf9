"""A results folder, file by file: what may be wrong with one file stops no other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from sftbench.common.errors import SftbenchError
from sftbench_leaderboard.groups import key_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import ITEMS, RECORD
from sftbench_leaderboard.problems import Problem, Verdict
from sftbench_leaderboard.receipts import Receipts
from sftbench_leaderboard.record import LeaderboardRecord
from sftbench_leaderboard.validate import parse_accepted, validate

DEPTH = 3
"""A record lies in <org>__<model>/<digest>/."""


def verdicts(
    results: Path,
    known: Known | None = None,
    now: datetime | None = None,
    receipts: Receipts | None = None,
    new: Sequence[Path] = (),
) -> Iterator[Verdict]:
    """Yield what is to be said of every file of a results folder, in the order of their names.

    A record that is the same as an earlier one in base, variant, facts, card and suite is rejected
    as a duplicate. A README or the like may lie at the top, and hidden files anywhere.

    Args:
        results: the folder.
        known: fact sets and cards besides those that ship.
        now: as in `validate`.
        receipts: of validations that need not be made again.
        new: records that come last, so that none of them is preferred to one that was there.

    Raises:
        SftbenchError: there is no such folder.
    """
    if not results.is_dir():
        raise SftbenchError("there is no such folder of results", where=results)
    lent = known or Known()
    seen: dict[tuple[str, ...], Path] = {}
    late = {path.absolute() for path in new}
    for path in sorted(_files(results), key=lambda one: one.absolute() in late):
        verdict = _stray(path, results) or _validated(path, lent, now, receipts)
        yield _once(verdict, seen)


def _validated(
    path: Path, known: Known, now: datetime | None, receipts: Receipts | None
) -> Verdict:
    if receipts is None:
        return validate(path, known, now)
    if receipts.has(path):
        # Its figures are those of its items: what is left is to read it.
        return Verdict(path, parse_accepted(path.read_bytes()))
    verdict = validate(path, known, now)
    if verdict.ok:
        receipts.give(path)
    return verdict


def records_of(results: Path) -> list[Path]:
    """Return the paths of what should be records, in the order of their names."""
    return [path for path in _files(results) if _stray(path, results) is None]


def _files(results: Path) -> Iterator[Path]:
    """Yield every file but items that lie beside a record; links as well, which are not followed.

    A folder that is a link counts as a file.
    """
    for folder, below, files in os.walk(results, followlinks=False):
        here = Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))
        links = [name for name in below if (here / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = here / name
            if name.startswith(".") or (here == results and not path.is_symlink()):
                continue
            if not (name.endswith(ITEMS) and _record_of(path).is_file()):
                yield path


def _record_of(items: Path) -> Path:
    return items.with_name(items.name.removesuffix(ITEMS) + RECORD)


def _stray(path: Path, results: Path) -> Verdict | None:
    """Return the verdict on what is no record and no items of one, else None."""
    if path.is_symlink():
        return Verdict(path, None, (Problem("symlink", "is a link, which is not followed"),))
    if path.suffix == RECORD and len(path.relative_to(results).parts) == DEPTH:
        return None
    what = "there is no record beside it" if path.name.endswith(ITEMS) else "is no record"
    return Verdict(path, None, (Problem("stray-file", what),))


def _once(verdict: Verdict, seen: dict[tuple[str, ...], Path]) -> Verdict:
    """Return the verdict, rejected where an accepted record before it is of the same."""
    if verdict.record is None:
        return verdict
    first = seen.setdefault(_key(verdict.record), verdict.path)
    if first == verdict.path:
        return verdict
    where = ascii("/".join(first.parts[-DEPTH:]))[1:-1]
    return Verdict(verdict.path, None, (Problem("duplicate", f"is of the same as {where}"),))


def _key(record: LeaderboardRecord) -> tuple[str, ...]:
    return (record.model.digest, *key_of(record))
