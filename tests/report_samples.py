"""A comparison to show: figures that are easy to tell apart, made without a model."""

from __future__ import annotations

from typing import Any

import polars as pl

from sftbench.analysis.evidence import (
    AgainstRecord,
    ChangeRecord,
    DifferenceRecord,
    EstimateRecord,
    FlipsRecord,
    ForgettingRecord,
    IntervalRecord,
    LevelChangeRecord,
    MasteryChangeRecord,
    NoiseResult,
    PairDomain,
    PairResult,
    RateRecord,
    RatioRecord,
    RunsRecord,
    TestedRecord,
)
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


def estimate(
    value: float, half: float = 0.1, *, least: float = 0.0, n: int = 200
) -> EstimateRecord:
    """Return a figure with an interval of `half` to each side, cut at `least` and 1."""
    low, high = max(least, value - half), min(1.0, value + half)
    return EstimateRecord(
        value=value, se=half / 2, low=low, high=high, n=n, clusters=150, df=80.0, deff=1.2
    )


def tested(level: int | None, lost: int, gained: int, n: int) -> TestedRecord:
    """Return a difference; level 0 has too few facts to see any."""
    value = (gained - lost) / n
    found = estimate(value, 0.06, least=-1.0, n=n)
    bounds = IntervalRecord(low=found.low, high=found.high)
    return TestedRecord(
        level=level,
        n=n,
        kept=20,
        lost=lost,
        gained=gained,
        wrong=n - 20 - lost - gained,
        difference=found,
        tango=bounds,
        newcombe=bounds,
        p_mcnemar=0.0004,
        p=0.0123,
        p_holm=0.0615,
        smallest=None if level == 0 else 0.085,
    )


def pair(first: VariantResult, second: VariantResult, *, known: bool) -> PairResult:
    """Return two variants against each other; `known` adds the difference in retention."""
    domains = []
    for before, after in zip(first.domains, second.domains, strict=True):
        scores = before.retention.score, after.retention.score
        gap = None if None in scores else (scores[1] or 0.0) - (scores[0] or 0.0)
        domains.append(
            PairDomain(
                domain=before.domain,
                facts=tested(None, 98, 56, 500),
                levels=tuple(tested(level, level, 4 - level, 100) for level in range(5)),
                macro=estimate(after.macro - before.macro, 0.07, least=-1.0, n=500),
                macro_smallest=0.09,
                retention=estimate(gap, 0.2, least=-1.0) if known and gap is not None else None,
            )
        )
    return PairResult(first=first.name, second=second.name, domains=tuple(domains))


def forgetting(domain: str, tuned: float, noise: float, times: RatioRecord) -> ForgettingRecord:
    """Return forgetting held against three draws of noise."""

    def runs(value: float, least: float) -> RunsRecord:
        found = estimate(value, 0.12, least=least)
        return RunsRecord(
            value=value, runs=(value - 0.02, value, value + 0.02), between=0.02, within=0.04,
            se=0.05, low=found.low, high=found.high,
            these_facts=IntervalRecord(low=found.low, high=found.high),
            these_runs=IntervalRecord(low=found.low, high=found.high), n=200, clusters=150,
        )  # fmt: skip

    gap = tuned - noise
    against = AgainstRecord(
        tuned=estimate(tuned),
        noise=runs(noise, 0.0),
        correlation=0.2,
        excess=DifferenceRecord(value=gap, low=gap - 0.12, high=gap + 0.12),
        times=times,
    )
    return ForgettingRecord(
        domain=domain,
        alike=against,
        **dict(against),
        lost=100,
        lost_by_noise=(16, 20, 24),
        known=200,
    )


def random_change(draw: int, ratio: float) -> ChangeRecord:
    """Return what a random change came to."""
    return ChangeRecord(
        variant=f"base+noise({draw})", norm=2.0 * ratio, update=2.0, ratio=ratio, tensors=9,
        dtype="bfloat16", numpy="2.0",
    )  # fmt: skip


def mastery() -> MasteryChangeRecord:
    """Return five levels measured again, and all of them together."""
    levels = [
        LevelChangeRecord(
            level=level,
            n=100.5,
            levelled=0.24 * level,
            before=0.22 * level + 0.01,
            chance=RateRecord(
                value=0.01 - 0.02 * level, se=0.01, low=-0.08, high=0.012, clusters=60, df=40.0
            ),
        )
        for level in range(5)
    ]
    every = LevelChangeRecord(level=None, n=502.5, levelled=0.4, before=0.4, chance=None)
    return MasteryChangeRecord(
        levels=(*levels, every), moved_by_chance=0.25, moved=None, facts=500, draws=(8, 8)
    )


def with_intervals(summary: Summary) -> Summary:
    """Add the interval of every mean and share, and all paired differences."""
    variants = tuple(
        one.model_copy(update={"domains": tuple(_limited(result) for result in one.domains)})
        for one in summary.variants
    )
    tuned = variants[1]
    pairs = [pair(variants[0], tuned, known=False)]
    pairs += [pair(tuned, one, known=True) for one in variants[2:]]
    return summary.model_copy(update={"variants": variants, "pairs": tuple(pairs)})


def _limited(result: DomainResult) -> DomainResult:
    found = result.retention
    return result.model_copy(
        update={
            "macro_interval": estimate(result.macro, 0.08, n=result.n),
            "score_interval": None if found.score is None else estimate(found.score),
            "kept_interval": estimate(found.kept / found.known) if found.known else None,
            "gain_interval": estimate(56 / 1234, 0.01, n=1234),
            "facts_interval": estimate(0.4, 0.05, n=result.n),
        }
    )


def with_evidence(summary: Summary) -> Summary:
    """Add all that chance could have done: in-domain more is forgotten than noise, not out."""
    limited = with_intervals(summary)
    return limited.model_copy(
        update={
            "noise": NoiseResult(
                changes=tuple(random_change(draw, ratio) for draw, ratio in ((1, 0.999), (2, 1.0))),
                forgetting=(
                    forgetting("in", 0.29, 0.1, RatioRecord(value=2.9, low=1.4, high=9.04)),
                    forgetting("out", 0.27, 0.2, RatioRecord(value=1.35, low=0.7, high=None)),
                ),
                flips=FlipsRecord(
                    batch=7, n=209, changed=0, worded=2, share=0.0,
                    interval=IntervalRecord(low=0.0, high=0.018),
                ),
                mastery=mastery(),
            )
        }
    )  # fmt: skip
