"""The result of a comparison: summed up from the answers, and the files that hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.changes import wide
from sftbench.analysis.evidence import MasteryChangeRecord
from sftbench.analysis.summary import RunRecord, Summary, VariantResult
from sftbench.checkpoints.variants import Again, Noise, Variant
from sftbench.common.files import atomic_file, write_json
from sftbench.common.tables import TableSpec
from sftbench.compare.answered import Answered
from sftbench.compare.evidence import noise_result, pair_results
from sftbench.compare.summarise import (
    baseline_results,
    compared_of,
    gained_of,
    items_of,
    lost_of,
    relation_results,
    variant_results,
    with_kinds,
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
    mastery: MasteryChangeRecord | None = None,
    kinds: pl.DataFrame | None = None,
    **more: Any,
) -> Compared:
    """Return the result that answers give.

    Args:
        run: what made it.
        answered: the variants: base, tuned, the restored ones by percent, then what shows noise.
        rows: the facts asked: columns of `ASKED`.
        facts: the whole fact set, for what a relation scores without knowledge.
        mastery: what chance alone does to the levels.
        kinds: fact_id, variant and kind of every loss, where losses were told apart.
        more: further fields of `Summary`.
    """
    items = items_of(answered, rows)
    known = wide(items)
    results = {one.name: one for one in variant_results(answered, items)}
    compared = compared_of(answered)
    relations = relation_results(compared, items)
    if facts is not None:
        more["baselines"] = baseline_results(facts, relations)
    summary = Summary(
        run=run,
        variants=tuple(results[one.variant.name] for one in compared),
        relations=relations,
        perturbed=_results(results, answered, Noise),
        again=next(iter(_results(results, answered, Again)), None),
        pairs=pair_results(answered, known),
        noise=noise_result(answered, known, mastery),
        **more,
    )
    lost = lost_of(items, answered)
    if kinds is not None:
        lost = with_kinds(lost, kinds)
    return Compared(summary, lost, gained_of(items, answered))


def _results(
    results: Mapping[str, VariantResult], answered: Sequence[Answered], kind: type[Variant]
) -> tuple[VariantResult, ...]:
    those = (one.variant for one in answered if isinstance(one.variant, kind))
    return tuple(results[one.name] for one in those)


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
