"""A comparison to show: figures that are easy to tell apart, made without a model."""

from __future__ import annotations

from typing import Any

import polars as pl

from sftbench.analysis.summary import (
    CheckpointRecord,
    DomainResult,
    FactsRecord,
    LevelAccuracy,
    LevelRetention,
    Outcomes,
    PromptRecord,
    RelationBaseline,
    RelationOutcome,
    RelationResult,
    Repair,
    Retention,
    RunRecord,
    Summary,
    TaskResult,
    VariantResult,
)


def domain(
    name: str, share: float, score: float | None = None, *, levels: int = 5, repair: bool = False
) -> DomainResult:
    """Return a result with accuracy `share` in every level and retention `score`."""
    right = round(100 * share)
    return DomainResult(
        domain=name,
        n=100 * levels,
        levels=tuple(
            LevelAccuracy(level=i, n=100, right=right, accuracy=share, low=share / 2, high=1.0)
            for i in range(levels)
        ),
        macro=share,
        macro_levels=tuple(range(levels)),
        mean_logprob=-1.25,
        retention=Retention(
            score=score,
            scored_levels=() if score is None else (1, 2, 3, 4),
            known=0 if score is None else sum(20 * i for i in range(levels)),
            kept=0 if score is None else sum(10 * i for i in range(levels)),
            unknown=1234,
            gained=56,
            gain=56 / 1234,
            levels=tuple(
                LevelRetention(
                    level=i,
                    known=0 if score is None else 20 * i,
                    kept=0 if score is None else 10 * i,
                    retained=None if score is None or not i else 0.5,
                    unknown=100 - 20 * i,
                    gained=i,
                    gain=None if i == 5 else i / (100 - 20 * i),
                )
                for i in range(levels)
            ),
        ),
        outcomes=Outcomes(kept=200, lost=98, gained=56, wrong=100 * levels - 354),
        repair=Repair(lost=98, healed=45, gained=56, preserved=33, kept=200, undamaged=199)
        if repair
        else None,
    )


def variant(name: str, *domains: DomainResult, percent: float | None = None) -> VariantResult:
    return VariantResult(
        name=name, slug=name, variant_id="0" * 32, percent=percent, seconds=12.0, domains=domains
    )


def make_summary(*variants: VariantResult, **changed: Any) -> Summary:
    record = CheckpointRecord(name="models/tiny", digest="a" * 32, tokenizer_digest="b" * 32)
    run = RunRecord(
        key="c" * 32,
        base=record,
        tuned=record.model_copy(update={"name": changed.pop("tuned_name", "runs/tuned")}),
        facts=FactsRecord(
            name="geography",
            digest="d" * 32,
            domains=("in", "out"),
            asked=1000,
            asked_digest="e" * 32,
            unlevelled=0,
        ),
        card={"digest": "f" * 32},
        prompt=PromptRecord(name="fewshot", shots=4, max_new_tokens=16, how="words"),
        update_norm=1.5,
        arithmetic="fp32",
        engine={"engine": "fake"},
        software={"sftbench": "0"},
        command="sftbench compare",
        made="2026-01-01T00:00:00+00:00",
        seconds=30.0,
    )
    return Summary(run=run, variants=variants, **changed)


def two_domains(
    name: str, share: float, kept: float, percent: float | None = None
) -> VariantResult:
    repair = percent is not None
    return variant(
        name,
        domain("in", share, kept, repair=repair),
        domain("out", share, kept + 0.02, repair=repair),
        percent=percent,
    )


def full() -> Summary:
    return make_summary(
        two_domains("base", 0.5, 0.98),
        two_domains("tuned", 0.4, 0.71),
        two_domains("tuned+restore(relative,5%)", 0.45, 0.75, 5.0),
        two_domains("tuned+restore(relative,20%)", 0.48, 0.8, 20.0),
        two_domains("tuned+restore(relative,60%)", 0.01, 0.0, 60.0),
    )


def with_relations(summary: Summary) -> Summary:
    """Add two relations, one of which has a baseline."""

    def outcomes(*right: int) -> tuple[RelationOutcome, ...]:
        return tuple(
            RelationOutcome(variant=one.name, right=n, kept=n, lost=right[0] - n, gained=0)
            for one, n in zip(summary.variants, right, strict=False)
        )

    count = len(summary.variants)
    return summary.model_copy(
        update={
            "relations": (
                RelationResult(
                    relation="country_capital",
                    domain="in",
                    n=50,
                    variants=outcomes(40, 30, *[35] * (count - 2)),
                ),
                RelationResult(
                    relation="city_country",
                    domain="in",
                    n=20,
                    variants=outcomes(10, 10, *[10] * (count - 2)),
                ),
            ),
            "baselines": (
                RelationBaseline(
                    relation="city_country", majority_answer="Peru", majority=0.25, echo=0.05
                ),
            ),
        }
    )


def with_tasks(summary: Summary, task: str = "gsm8k") -> Summary:
    """Add a task to every variant; the restored ones give back what the tuned model gained."""
    values = (0.2, 0.6, 0.5, 0.4, 0.3)
    return summary.model_copy(
        update={
            "variants": tuple(
                one.model_copy(
                    update={
                        "tasks": (
                            TaskResult(
                                task=task, metric="exact_match", value=value, stderr=0.02, n=500
                            ),
                        )
                    }
                )
                for one, value in zip(summary.variants, values, strict=False)
            )
        }
    )


def changed_table(count: int, text: str = " Chile", right_in: str = "healed_by") -> pl.DataFrame:
    """Return lost facts, or with `right_in` "preserved_by" gained ones."""
    return pl.DataFrame(
        {
            "fact_id": [str(i) for i in range(count)],
            "domain": "in",
            "relation": "country_capital",
            "level": 4,
            "rate": 0.93,
            "question": [f"Question {i}?" for i in range(count)],
            "answer": text,
            "base_text": text,
            "tuned_text": text,
            "base_logprob": -1.0,
            "tuned_logprob": -2.0,
            right_in: [["tuned+restore(relative,20%)"]] * count,
        }
    )


def gained_table(count: int, text: str = " Chile") -> pl.DataFrame:
    return changed_table(count, text, "preserved_by")
