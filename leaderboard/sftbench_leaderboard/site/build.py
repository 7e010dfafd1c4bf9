"""The site of a board, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sftbench.common.errors import SftbenchError
from sftbench.common.progress import progress
from sftbench.report.words import MISSING, figure
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.problems import Verdict
from sftbench_leaderboard.site.about import about, commands
from sftbench_leaderboard.site.downloads import copy_records
from sftbench_leaderboard.site.entries import compare_data, table_data, tradeoff_data
from sftbench_leaderboard.site.folder import site_folder
from sftbench_leaderboard.site.names import pages_of
from sftbench_leaderboard.site.neighbours import neighbours
from sftbench_leaderboard.site.render import render, write_assets
from sftbench_leaderboard.site.runs import Run, runs_of
from sftbench_leaderboard.tables import Table, write_tables

DATA = "data"
NAME = "sftbench leaderboard"
MOST_PROBLEMS = 10
MOST_SHOWN = 500
"""Files left out that are listed."""


class Options(NamedTuple):
    """How a site is built.

    Attributes:
        name: of the leaderboard, in the corner of each page.
        records: records and items can be downloaded.
        results: the folder that the records are from.
    """

    name: str = NAME
    records: bool = True
    results: Path | None = None


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
    """Write the site of a board into a folder, in place of a site that is there (`site_folder`).

    Args:
        board: the accepted records.
        rejected: what was left out, which has a page of its own.
        site: the folder.
        known: fact sets that questions are taken from.
        options: see `Options`.

    Raises:
        SftbenchError: there is no record, or the folder cannot take the site.
    """
    asked = options or Options()
    if not board.records:
        raise SftbenchError(
            "there is no record that is accepted, so there would be nothing to show",
            where=asked.results,
            remedy="Name the folder that holds <org>__<model>/<digest>/<suite>.json.",
        )
    pages = pages_of(board)
    with site_folder(site, asked.results) as folder:
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
    whole = {
        **common,
        "root": "../",
        "here": "model",
        "paths": board.models["path"].to_list(),
        "apart": board.models["base_apart"],
        "drift": [MISSING if one is None else figure(one) for one in board.models["drift"]],
    }
    near = neighbours(board)
    with progress("writing pages", len(pages), unit="models") as advance:
        for model, page in pages.items():
            values = _model_values(runs_of(board, model, known), near)
            text = render("model.html.jinja", model=model, **values, **whole)
            (to / page).write_text(text, encoding="utf-8")
            advance(1)


def _model_values(runs: Sequence[Run], near: Mapping[str, str]) -> dict[str, Any]:
    """Return what a model's page shows of its runs; `near`: a link from a record's id."""
    data: dict[str, dict[str, Any]] = {}
    for run in runs:
        for kind, rows in run.chart_data().items():
            data.setdefault(kind, {}).update(rows)
    return {
        "runs": runs,
        "data": {**data, **_EMPTY},
        "links": {run.key: near.get(run.first.id, "") for run in runs},
        "commands": {run.key: commands(run.first.record) for run in runs},
        "about": {run.key: about(run.first.record) for run in runs},
    }


_EMPTY: dict[str, Any] = {"restore": {}, "relations": {}, "forgetting": {}, "tasks": {}}
"""Charts of the report that no page of the site has."""
