"""Records written into a results folder: checked first, never over another record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from pydantic import ValidationError

from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_file, write_json
from sftbench.scoring.answers import rescore
from sftbench_leaderboard.headline import figures_of
from sftbench_leaderboard.items import ITEMS, LONGEST_TEXT, sha256_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside, place_of
from sftbench_leaderboard.record import KIND, SCHEMA_VERSION, LeaderboardRecord
from sftbench_leaderboard.validate import validate

TEXT_COLUMNS = {"base_text": "base_correct", "text": "correct"}


class Draft(NamedTuple):
    """A record that is still to be written.

    Attributes:
        fields: of `LeaderboardRecord`, without those that follow from the items.
        items: columns of `ITEMS`, sorted by fact_id.
    """

    fields: Mapping[str, Any]
    items: pl.DataFrame


class Submitted(NamedTuple):
    """A record in its place.

    Attributes:
        path: of the record.
        record: the record.
        there: it was there already, the same to the byte.
    """

    path: Path
    record: LeaderboardRecord
    there: bool


def cut_texts(items: pl.DataFrame, answers: pl.DataFrame, how: str) -> pl.DataFrame:
    """Return items whose texts are short enough, marked right by what is left of them.

    Args:
        items: columns of `ITEMS`.
        answers: fact_id and answers: all that count as right.
        how: the suite's matching.

    Raises:
        SftbenchError: answers are marked otherwise than the matching of this version marks them.
    """
    marked = items.with_columns(pl.col(list(TEXT_COLUMNS)).str.head(LONGEST_TEXT))
    for text, correct in TEXT_COLUMNS.items():
        asked = marked.select("fact_id", prompt=pl.lit(""), text=pl.col(text))
        right = rescore(asked, answers, how)["correct"]  # type: ignore[arg-type]
        whole = items[text].str.len_chars() <= LONGEST_TEXT
        other = int(((right != items[correct]) & whole).sum())
        if other:
            raise SftbenchError(
                f"{other:,} answers are marked otherwise than this version of sftbench marks them",
                remedy="Score them again first: `sftbench rescore RESULT -o NEW`, and submit that.",
            )
        marked = marked.with_columns(right.alias(correct))
    return marked


def submit(drafts: Sequence[Draft], results: Path, known: Known | None = None) -> list[Submitted]:
    """Write records and their items into a results folder, each checked before.

    Args:
        drafts: the records.
        results: the folder; it is made if it is not there.
        known: fact sets and cards besides those that ship.

    Raises:
        SftbenchError: a record would be rejected (the message says why), or another record lies in
            its place. Nothing is written then.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = [_written(draft, Path(scratch)) for draft in drafts]
        for path in made:
            _require_accepted(path, known or Known())
        found = []
        for path in made:
            place = results / path.relative_to(scratch)
            found.append((path, place, _is_there(path, place)))
        return [_placed(*one) for one in found]


def _written(draft: Draft, folder: Path) -> Path:
    """Write a draft as record and items into a folder; return the record's path."""
    fields = dict(draft.fields)
    model, suite = fields["model"], fields["suite"]
    path = folder / place_of(model["name"], model["digest"], suite["name"])
    items = ITEMS.conform(draft.items.sort("fact_id"))
    beside = items_beside(path)
    ITEMS.write(items, beside, {"facts_digest": fields["facts"]["digest"]})
    found = figures_of(items)
    record = _record(
        {
            **fields,
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "base": {**fields["base"], "domains": found.base},
            "domains": found.domains,
            "noise": found.noise,
            "items": {
                "file": beside.name,
                "sha256": sha256_of(beside.read_bytes()),
                "rows": items.height,
            },
        }
    )
    write_json(path, record.model_dump(mode="json"))
    return path


def _record(fields: Mapping[str, Any]) -> LeaderboardRecord:
    try:
        return LeaderboardRecord.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SftbenchError(
            f"holds what no record may: {where}: {first['msg']}", where="the result"
        ) from None


def _require_accepted(path: Path, known: Known) -> None:
    verdict = validate(path, known)
    if not verdict.ok:
        raise SftbenchError(
            "the record would be rejected: " + "; ".join(map(str, verdict.problems)),
            where=path.name,
            remedy="Facts and cards that do not ship are named with --facts and --card.",
        )


def _is_there(made: Path, place: Path) -> bool:
    """Return whether the very same record lies there.

    Raises:
        SftbenchError: another one does.
    """
    there = [one.exists() or one.is_symlink() for one in (place, items_beside(place))]
    if not any(there):
        return False
    pairs = ((made, place), (items_beside(made), items_beside(place)))
    if all(there) and all(mine.read_bytes() == other.read_bytes() for mine, other in pairs):
        return True
    raise SftbenchError(
        "another record of this variant, suite and name lies there",
        where=place,
        remedy="Remove it first if the new one is to take its place.",
    )


def _placed(made: Path, place: Path, there: bool) -> Submitted:
    if not there:
        for mine, other in ((items_beside(made), items_beside(place)), (made, place)):
            with atomic_file(other) as temporary:
                temporary.write_bytes(mine.read_bytes())
    record = LeaderboardRecord.model_validate_json(place.read_bytes())
    return Submitted(place, record, there)
