"""Whether a record may stand in a leaderboard: each rule once, and each figure recomputed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from sftbench.common.errors import SftbenchError
from sftbench_leaderboard.check_fields import field_problems
from sftbench_leaderboard.check_items import item_problems
from sftbench_leaderboard.items import MOST_BYTES, read_items, sha256_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside, place_of
from sftbench_leaderboard.problems import Problem, Verdict
from sftbench_leaderboard.record import LeaderboardRecord
from sftbench_leaderboard.strict_json import RefusedError, read_strictly

MOST_RECORD_BYTES = 1024 * 1024


def validate(path: Path, known: Known | None = None, now: datetime | None = None) -> Verdict:
    """Return what is to be said of a record and the items beside it.

    Nothing that the two files hold raises. What is checked, in this order: size, JSON, schema; that
    the record lies where its content says; time, suite, variant and counts; then the items, that
    they are facts of a known set with the levels of their card, that `correct` follows from the
    texts, and that every figure follows from the items.

    Args:
        path: the record, in a results folder: ``.../<org>__<model>/<digest>/<suite>.json``.
        known: fact sets and cards besides those that ship.
        now: the time that a record may not be later than by more than a day; None for this moment.
    """
    found: list[Problem] = []
    record = None
    try:
        record = _read(path)
        found += _checked(path, record, known or Known(), now or datetime.now(UTC))
    except RefusedError as refused:
        found.append(Problem(refused.code, refused.what, refused.where))
    except Exception as error:  # a build goes on: the file is named and left out
        found.append(Problem("internal", f"{type(error).__name__}: {ascii(str(error))[:300]}"))
    return Verdict(path, None if found else record, tuple(found))


def parse_record(content: bytes) -> LeaderboardRecord:
    """Return the record that the content of a file holds.

    Raises:
        RefusedError: it is too large, no JSON, or no record.
    """
    if len(content) > MOST_RECORD_BYTES:
        raise RefusedError("too-large", f"holds more than {MOST_RECORD_BYTES:,} bytes")
    read_strictly(content)
    try:
        return LeaderboardRecord.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RefusedError(
            "schema", ascii(first["msg"])[1:-1][:300], ascii(where)[1:-1][:200]
        ) from None


def parse_accepted(content: bytes) -> LeaderboardRecord:
    """Return the record that the content of a file holds, which was accepted as it is now."""
    return LeaderboardRecord.model_validate_json(content, strict=True)


def _read(path: Path) -> LeaderboardRecord:
    return parse_record(_content(path, MOST_RECORD_BYTES, "unreadable"))


def _content(path: Path, most: int, missing: str) -> bytes:
    """Return what a file holds, one byte more than is allowed at most.

    Raises:
        RefusedError: it is a link, no file, too large, or cannot be read.
    """
    try:
        if path.is_symlink():
            raise RefusedError("symlink", "is a link")
        if not path.is_file():
            raise RefusedError(missing, "there is no such file", path.name)
        if path.stat().st_size > most:
            raise RefusedError("too-large", f"holds more than {most:,} bytes", path.name)
        with path.open("rb") as file:
            return file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RefusedError("unreadable", f"cannot be read ({type(error).__name__})") from None


def _checked(
    path: Path, record: LeaderboardRecord, known: Known, now: datetime
) -> Iterator[Problem]:
    yield from _place_problems(path, record)
    yield from field_problems(record, now)
    content = _content(items_beside(path), MOST_BYTES, "items-missing")
    if sha256_of(content) != record.items.sha256:
        raise RefusedError("items-digest", "the items are not those that the record names", "items")
    yield from item_problems(record, read_items(content), known)


def _place_problems(path: Path, record: LeaderboardRecord) -> Iterator[Problem]:
    try:
        place = place_of(record.model.name, record.model.digest, record.suite.name)
    except SftbenchError as error:
        yield Problem("place", error.what, "model.name")
        return
    if path.absolute().parts[-3:] != place.parts:
        yield Problem("place", f"must lie at {place}")
    if record.items.file != items_beside(place).name:
        yield Problem("place", f"its items must be called {items_beside(place).name}", "items.file")
