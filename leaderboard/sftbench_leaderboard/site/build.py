"""The site of a board, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.evidence import FlipsRecord
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_folder
from sftbench.common.progress import progress
from sftbench.report.words import MISSING, figure
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.problems import Verdict
from sftbench_leaderboard.record import LeaderboardRecord
from sftbench_leaderboard.site.downloads import copy_records
from sftbench_leaderboard.site.entries import compare_data, table_data, tradeoff_data
from sftbench_leaderboard.site.render import render, visible, write_assets
from sftbench_leaderboard.site.runs import pages_of, runs_of
from sftbench_leaderboard.tables import Table, write_tables

MARKER = ".sftbench-site"
"""A file that says that a folder is a site, which may be written anew."""
DATA = "data"
NAME = "sftbench leaderboard"
NEIGHBOURS = 4
MOST_PROBLEMS = 10
MOST_SHOWN = 500
"""Files left out that are listed."""


class Options(NamedTuple):
    """How a site is built.

    Attributes:
        name: of the leaderboard, in the corner of each page.
        records: records and items can be downloaded.
    """

    name: str = NAME
    records: bool = True


class Built(NamedTuple):
    """What was written: pages of models, and bytes in all."""

    models: int
    size: int


def build(
    board: Board,
    rejected: Sequence[Verdict],
    site: Path,
    known: Known,
    options: Options | None = None,
) -> Built:
    """Write the site of a board into a folder, in place of a site that is there.

    Args:
        board: the accepted records.
        rejected: what was left out, which has a page of its own.
        site: the folder.
        known: fact sets that questions are taken from.
        options: see `Options`.

    Raises:
        SftbenchError: the folder holds something else.
    """
    asked = options or Options()
    ours = (site / MARKER).is_file()
    if site.is_dir() and any(site.iterdir()) and not ours:
        raise SftbenchError(
            "holds something else than a site", where=site, remedy="Name another folder."
        )
    pages = pages_of(board)
    with atomic_folder(site, overwrite=ours) as folder:
        (folder / MARKER).write_text("Written by sftbench leaderboard build.\n", encoding="utf-8")
        (folder / ".nojekyll").touch()  # GitHub Pages: leave the files as they are
        write_assets(folder)
        tables = write_tables(board, folder / DATA)
        if asked.records:
            copy_records(board, folder / DATA / "records")
        common = {
            "name": asked.name,
            "records": len(board.records),
            "rejected": len(rejected),
            "downloads": asked.records,
        }
        _write_pages(board, folder, known, pages, common, tables)
        _write_rejected(folder, rejected, common)
        _write_models(board, folder, known, pages, common)
        size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    return Built(len(pages), size)


def _write_pages(
    board: Board,
    folder: Path,
    known: Known,
    pages: Mapping[str, str],
    common: Mapping[str, Any],
    tables: Sequence[Table],
) -> None:
    groups = sorted(board.groups.values(), key=lambda one: (not one[0].canonical, -len(one[1])))
    for page, values in (
        ("index", {"data": table_data(board, pages)}),
        ("compare", {"data": compare_data(board, pages, known)}),
        ("tradeoff", {"data": tradeoff_data(board, pages)}),
        ("score", {"groups": groups, "tables": tables}),
    ):
        text = render(f"{page}.html.jinja", here=f"{page}.html", **common, **values)
        (folder / f"{page}.html").write_text(text, encoding="utf-8")


def _write_rejected(folder: Path, rejected: Sequence[Verdict], common: Mapping[str, Any]) -> None:
    if not rejected:
        return
    verdicts = [
        {
            "where": ascii("/".join(one.path.parts[-3:]))[1:-1][:300],
            "problems": [ascii(str(it))[1:-1][:300] for it in one.problems[:MOST_PROBLEMS]],
        }
        for one in rejected[:MOST_SHOWN]
    ]
    text = render("rejected.html.jinja", here="rejected.html", verdicts=verdicts, **common)
    (folder / "rejected.html").write_text(text, encoding="utf-8")


def _write_models(
    board: Board,
    folder: Path,
    known: Known,
    pages: Mapping[str, str],
    common: Mapping[str, Any],
) -> None:
    to = folder / "models"
    to.mkdir()
    paths = board.models["path"].to_list()
    drift = [MISSING if one is None else figure(one) for one in board.models["drift"]]
    near = _neighbours(board)
    with progress("writing pages", len(pages), unit="models") as advance:
        for model, page in pages.items():
            runs = runs_of(board, model, known)
            data: dict[str, dict[str, Any]] = {}
            for run in runs:
                for kind, rows in run.chart_data().items():
                    data.setdefault(kind, {}).update(rows)
            text = render(
                "model.html.jinja",
                root="../",
                here="model",
                model=model,
                runs=runs,
                data={**data, **_EMPTY},
                paths=paths,
                drift=drift,
                links={run.key: near.get(run.first.id, "") for run in runs},
                about={run.key: _about(run.first.record) for run in runs},
                **common,
            )
            (to / page).write_text(text, encoding="utf-8")
            advance(1)


_EMPTY: dict[str, Any] = {"restore": {}, "relations": {}, "forgetting": {}, "tasks": {}}
"""Charts of the report that no page of the site has."""


def _neighbours(board: Board) -> dict[str, str]:
    """Return for each ranked record its id and those of the nearest in rank, for a comparison."""
    found: dict[str, str] = {}
    ranked = board.models.join(
        board.domains.filter(pl.col("ranked_score").is_not_null()), on="record"
    ).sort("group", "domain", "ranked_score", "record", descending=[False, False, True, False])
    for _, part in ranked.group_by("group", "domain", maintain_order=True):
        ids = part["record"].to_list()
        for at, one in enumerate(ids):
            start = max(0, min(at - NEIGHBOURS // 2, len(ids) - NEIGHBOURS - 1))
            others = [it for it in ids[start : start + NEIGHBOURS + 1] if it != one]
            if others:
                found.setdefault(one, ",".join([one, *others]))
    return found


def _about(record: LeaderboardRecord) -> list[tuple[str, str]]:
    """Return how a record was made, as pairs of a name and a text."""
    norm, suite, facts = record.update_norm, record.suite, record.facts
    again = record.checks.base_again
    rows = [
        ("Base", f"{record.base.name} ({record.base.digest})"),
        ("Tuned model", record.model.tuned_digest),
        ("Tokenizer", record.model.tokenizer_digest),
        ("Recipe", _pairs(record.recipe or {}) or "unknown"),
        ("Update norm", "unknown" if norm is None else f"{norm:.4g} (L2)"),
        ("Facts", f"{facts.name} ({facts.digest}), {facts.asked:,} asked"),
        ("Mastery card", f"{record.card.digest} ({record.card.estimator})"),
        ("Prompt", f"{suite.prompt}, {suite.shots} shots, suite {suite.version}"),
        ("Base asked again", _again(again)),
        ("Time", _times(record)),
        ("Engine", _pairs(record.engine)),
        ("Software", _pairs(record.software)),
    ]
    return [(key, visible(value)) for key, value in rows]


def _again(flips: FlipsRecord | None) -> str:
    if flips is None:
        return "no"
    return f"yes, {flips.changed:,} of {flips.n:,} facts were right one time and wrong the other"


def _times(record: LeaderboardRecord) -> str:
    cost = record.cost
    return ", ".join([
        *([] if cost.training_seconds is None else [f"training {cost.training_seconds:.0f} s"]),
        *([] if cost.seconds is None else [f"evaluation {cost.seconds:.0f} s"]),
        f"made {record.made}",
    ])  # fmt: skip


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
