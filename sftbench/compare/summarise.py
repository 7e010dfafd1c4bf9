"""From the answers of every variant to the summary: the tables' figures, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from sftbench.analysis import changes
from sftbench.analysis.accuracy import accuracy, macro
from sftbench.analysis.intervals import wilson
from sftbench.analysis.relations import by_relation
from sftbench.analysis.summary import (
    BASE,
    TUNED,
    DomainResult,
    LevelAccuracy,
    Outcomes,
    RelationBaseline,
    RelationOutcome,
    RelationResult,
    Repair,
    Retention,
    TaskResult,
    VariantResult,
)
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Again, Noise, Variant
from sftbench.compare.answered import Answered
from sftbench.compare.evidence import intervals
from sftbench.facts.table import DOMAINS, FactSet
from sftbench.scoring.retention import Retention as RetentionFigures
from sftbench.scoring.retention import retention


def items_of(answered: Sequence[Answered], rows: pl.DataFrame) -> pl.DataFrame:
    """Return one row per fact and variant: the answers with what is known of each fact.

    Args:
        answered: the variants.
        rows: the facts asked: the columns of `FACTS`, level and rate.

    Returns:
        the columns of `ANSWERS` and relation, question, answer (canonical), domain, level, rate.
    """
    known = rows.select(
        "fact_id", "relation", "question", "domain", "level", "rate",
        answer=pl.col("answers").list.first(),
    )  # fmt: skip
    return pl.concat([one.answers for one in answered]).join(known, on="fact_id")


def lost_of(items: pl.DataFrame, answered: Sequence[Answered]) -> pl.DataFrame:
    """Return the lost facts (see `sftbench.analysis.changes.lost_facts`)."""
    return changes.lost_facts(items, BASE, TUNED, _restored_names(answered))


def with_kinds(lost: pl.DataFrame, kinds: pl.DataFrame) -> pl.DataFrame:
    """Return the lost facts with the kind of each loss by the tuned model, before the last column.

    Args:
        lost: as from `lost_of`.
        kinds: fact_id, variant and kind of every loss.
    """
    own = kinds.filter(pl.col("variant") == TUNED).select("fact_id", "kind")
    *first, last = lost.columns
    joined = lost.join(own, on="fact_id", how="left", maintain_order="left")
    return joined.select(*first, "kind", last)


def gained_of(items: pl.DataFrame, answered: Sequence[Answered]) -> pl.DataFrame:
    """Return the gained facts (see `sftbench.analysis.changes.gained_facts`)."""
    return changes.gained_facts(items, BASE, TUNED, _restored_names(answered))


def _restored_names(answered: Sequence[Answered]) -> list[str]:
    return [one.variant.name for one in answered if isinstance(one.variant, Restored)]


def compared_of(answered: Sequence[Answered]) -> list[Answered]:
    """Return the variants that are compared: all but those that show noise."""
    return [one for one in answered if not isinstance(one.variant, Noise | Again)]


def relation_results(
    answered: Sequence[Answered], items: pl.DataFrame
) -> tuple[RelationResult, ...]:
    """Return the counts of every relation, in-domain first, each with all variants in order."""
    order = [one.variant.name for one in answered]
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in by_relation(items, BASE).iter_rows(named=True):
        found.setdefault((row["domain"], row["relation"]), {})[row["variant"]] = row
    counts = ("variant", "right", "kept", "lost", "gained")
    return tuple(
        RelationResult(
            relation=relation,
            domain=domain,
            n=rows[BASE]["n"],
            variants=tuple(
                RelationOutcome(**{key: rows[name][key] for key in counts}) for name in order
            ),
        )
        for (domain, relation), rows in found.items()
    )


def baseline_results(
    facts: FactSet, relations: Sequence[RelationResult]
) -> tuple[RelationBaseline, ...]:
    """Return what needs no knowledge in each relation that was asked, sorted by its name."""
    asked = {one.relation for one in relations}
    return tuple(
        RelationBaseline(
            relation=relation,
            majority_answer=one.majority_answer,
            majority=one.majority,
            echo=one.echo,
        )
        for relation, one in sorted(facts.baselines.items())
        if relation in asked
    )


def _percent(variant: Variant) -> float | None:
    """Return the percentage of a restore that is the paper's way, None of others."""
    if not isinstance(variant, Restored) or not variant.is_papers or variant.percent is None:
        return None
    return float(variant.percent)


def variant_results(answered: Sequence[Answered], items: pl.DataFrame) -> tuple[VariantResult, ...]:
    """Return the result of every variant, in the order given; the first must be the base."""
    cells = accuracy(items)
    macros = macro(cells)
    facts = changes.wide(items)
    domains = [name for name in DOMAINS if name in set(facts["domain"])]
    return tuple(
        VariantResult(
            name=one.variant.name,
            slug=one.variant.slug,
            variant_id=one.answers["variant_id"][0],
            percent=_percent(one.variant),
            seconds=one.record["seconds"],
            restore=one.record.get("restore"),
            tasks=tuple(TaskResult.model_validate(task) for task in one.record.get("tasks", ())),
            domains=tuple(
                _domain_result(
                    one.variant,
                    domain,
                    _Tables(*(_within(table, domain) for table in (items, cells, macros, facts))),
                )
                for domain in domains
            ),
        )
        for one in answered
    )


@dataclass(frozen=True)
class _Tables:
    """The rows of one domain: items, accuracy, macro, and facts with a column per variant."""

    items: pl.DataFrame
    cells: pl.DataFrame
    macros: pl.DataFrame
    facts: pl.DataFrame


def _within(table: pl.DataFrame, domain: str) -> pl.DataFrame:
    return table.filter(pl.col("domain") == domain)


def _domain_result(variant: Variant, domain: str, tables: _Tables) -> DomainResult:
    name = variant.name
    answers = tables.items.filter(pl.col("variant") == name)
    base = tables.items.filter(pl.col("variant") == BASE)
    mean = tables.macros.row(by_predicate=pl.col("variant") == name, named=True)
    cells = tables.cells.filter(pl.col("variant") == name).select(list(LevelAccuracy.model_fields))
    repaired = isinstance(variant, Restored)
    return DomainResult(
        domain=domain,
        n=answers.height,
        levels=tuple(LevelAccuracy(**row) for row in cells.iter_rows(named=True)),
        macro=mean["macro"],
        macro_levels=tuple(mean["levels"]),
        mean_logprob=float(answers["answer_logprob"].mean()),  # type: ignore[arg-type]
        retention=_with_intervals(retention(base, answers, tables.facts)),
        **intervals(tables.facts, name),
        outcomes=Outcomes.model_validate(changes.outcomes(tables.facts, BASE, name)),
        repair=Repair.model_validate(changes.repair(tables.facts, BASE, TUNED, name))
        if repaired
        else None,
    )


def _with_intervals(found: RetentionFigures) -> Retention:
    """Return the retention with the Wilson interval of every level."""
    levels = []
    for one in found.levels:
        bounds = wilson(one.kept, one.known) if one.known else None
        levels.append({**one._asdict(), **(bounds._asdict() if bounds else {})})
    return Retention.model_validate({**found._asdict(), "levels": levels})
