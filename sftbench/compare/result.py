"""The result of a comparison: summed up from the answers, and the files that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.summary import RunRecord, Summary
from sftbench.common.files import atomic_file, write_json
from sftbench.common.tables import TableSpec
from sftbench.compare.summarise import (
    Answered,
    baseline_results,
    gained_of,
    items_of,
    lost_of,
    relation_results,
    variant_results,
)
from sftbench.facts.table import FACTS, FactSet
from sftbench.report.html import render

SUMMARY, REPORT = "summary.json", "report.html"
LOST, GAINED = "lost.csv", "gained.csv"
FACTS_ASKED = "facts.parquet"

ASKED = TableSpec(
    kind="facts asked",
    columns={
        **FACTS.columns,
        "rate": pl.Float64,  # mastery of the base, in [0, 1]
        "level": pl.Int8,  # 0..4, of the base
    },
    remedy="Make one with `sftbench compare`; it stands in the folder of the result.",
)
"""The facts of a result with their levels, so that its answers can be scored again by itself."""


class Compared(NamedTuple):
    """The result of a comparison: its summary, its lost and gained facts, most telling first."""

    summary: Summary
    lost: pl.DataFrame
    gained: pl.DataFrame


def sum_up(
    run: RunRecord,
    answered: Sequence[Answered],
    rows: pl.DataFrame,
    facts: FactSet | None = None,
    **more: Any,
) -> Compared:
    """Return the result that answers give.

    Args:
        run: what made it.
        answered: the variants: base, tuned, then the restored ones by percent.
        rows: the facts asked: columns of `ASKED`.
        facts: the whole fact set, for what a relation scores without knowledge.
        more: further fields of `Summary`.
    """
    items = items_of(answered, rows)
    relations = relation_results(answered, items)
    if facts is not None:
        more["baselines"] = baseline_results(facts, relations)
    summary = Summary(
        run=run, variants=variant_results(answered, items), relations=relations, **more
    )
    return Compared(summary, lost_of(items, answered), gained_of(items, answered))


def write_result(out: Path, compared: Compared, rows: pl.DataFrame) -> None:
    """Write summary, lost and gained facts, the facts asked and the page into a folder."""
    asked = {"facts_digest": compared.summary.run.facts.digest}
    ASKED.write(rows, out / FACTS_ASKED, asked)
    for name, frame in ((LOST, compared.lost), (GAINED, compared.gained)):
        lists = [column for column, kind in frame.schema.items() if kind == pl.List(pl.String)]
        with atomic_file(out / name) as temporary:
            frame.with_columns(pl.col(lists).list.join("; ")).write_csv(temporary)
    with atomic_file(out / REPORT) as temporary:
        temporary.write_text(render(*compared), encoding="utf-8")
    write_json(out / SUMMARY, compared.summary.model_dump(mode="json"))
