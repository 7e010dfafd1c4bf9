"""What chance could have done: the intervals, paired differences and noise of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.estimates import Estimate, share
from sftbench.analysis.evidence import (
    ChangeRecord,
    EstimateRecord,
    FlipsRecord,
    ForgettingRecord,
    MasteryChangeRecord,
    NoiseResult,
    PairDomain,
    PairResult,
    TestedRecord,
)
from sftbench.analysis.mastery_change import mastery_change
from sftbench.analysis.noise import flipped, forgetting
from sftbench.analysis.pairs import Paired, Tested, paired
from sftbench.analysis.summary import BASE, TUNED
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Again, Noise
from sftbench.compare.answered import Answered
from sftbench.facts.table import DOMAINS
from sftbench.mastery.card import MasteryCard


def intervals(facts: pl.DataFrame, variant: str) -> Mapping[str, EstimateRecord | None]:
    """Return the intervals of one variant in one domain, by the fields of `DomainResult`.

    Args:
        facts: the facts of the domain, as returned by `sftbench.analysis.changes.wide`.
        variant: its column.
    """
    known = facts.filter(pl.col(BASE), pl.col("level") > 0)
    return {
        "macro_interval": _share(facts, variant, by_level=True),
        "score_interval": _share(known, variant, by_level=True),
        "kept_interval": _share(known, variant, by_level=False),
        "gain_interval": _share(facts.filter(~pl.col(BASE)), variant, by_level=False),
        "facts_interval": _share(facts, variant, by_level=False),
    }


def _share(facts: pl.DataFrame, variant: str, *, by_level: bool) -> EstimateRecord | None:
    if facts.is_empty():
        return None
    design = Design.of(facts, by_level=by_level)
    return _record(share(design, value_column(facts, design, variant)))


def _record(estimate: Estimate) -> EstimateRecord:
    return EstimateRecord.model_validate(estimate)


def pair_results(answered: Sequence[Answered], facts: pl.DataFrame) -> tuple[PairResult, ...]:
    """Return base against tuned model, then the tuned model against each restored variant.

    Args:
        answered: the variants.
        facts: all facts, as returned by `sftbench.analysis.changes.wide`.
    """
    restored = [one.variant.name for one in answered if isinstance(one.variant, Restored)]
    return (
        # Against the base itself retention has no difference: it is the score.
        pair_result(facts, BASE, TUNED, known=None),
        *(pair_result(facts, TUNED, name, known=BASE) for name in restored),
    )


def pair_result(
    facts: pl.DataFrame,
    first: str,
    second: str,
    *,
    known: str | None,
    names: tuple[str, str] | None = None,
) -> PairResult:
    """Return two variants against each other, domain by domain.

    Args:
        facts: fact_id, domain, level, relation, answer, and a Boolean column per variant.
        first: column of the one.
        second: column of the other.
        known: column of the base, for the difference in retention; None leaves that out.
        names: what to call the two; None for their columns.
    """
    present = [domain for domain in DOMAINS if domain in set(facts["domain"])]
    mine, theirs = names or (first, second)
    return PairResult(
        first=mine,
        second=theirs,
        domains=tuple(
            _pair_domain(
                domain,
                paired(facts.filter(pl.col("domain") == domain), first, second, known=known),
            )
            for domain in present
        ),
    )


def _pair_domain(domain: str, found: Paired) -> PairDomain:
    return PairDomain(
        domain=domain,
        facts=_tested(found.facts),
        levels=tuple(_tested(one) for one in found.levels),
        macro=_record(found.macro),
        macro_smallest=found.macro_smallest,
        retention=None if found.retention is None else _record(found.retention),
    )


def _tested(found: Tested) -> TestedRecord:
    fields: dict[str, Any] = {**found._asdict(), **found.counts._asdict(), "n": found.counts.n}
    estimate, _ = fields.pop("estimate"), fields.pop("counts")
    return TestedRecord.model_validate({**fields, "difference": _record(estimate)})


def noise_result(
    answered: Sequence[Answered], facts: pl.DataFrame, mastery: MasteryChangeRecord | None
) -> NoiseResult:
    """Return what is only noise: random changes, the base asked again, its mastery drawn again.

    Args:
        answered: the variants.
        facts: all facts, as returned by `sftbench.analysis.changes.wide`.
        mastery: what chance does to the levels (`chance_of`); None where that is not known.
    """
    draws = [one.variant.name for one in answered if isinstance(one.variant, Noise)]
    again = next((one for one in answered if isinstance(one.variant, Again)), None)
    return NoiseResult(
        changes=tuple(
            ChangeRecord(variant=one.variant.name, **one.record["noise"])
            for one in answered
            if isinstance(one.variant, Noise) and "noise" in one.record
        ),
        forgetting=tuple(_forgetting(facts, draws)) if draws else (),
        flips=None if again is None else _flips(answered[0].answers, again),
        mastery=mastery,
    )


def _forgetting(facts: pl.DataFrame, draws: Sequence[str]) -> list[ForgettingRecord]:
    found = []
    for domain in DOMAINS:
        rows = facts.filter(pl.col("domain") == domain)
        one = None if rows.is_empty() else forgetting(rows, BASE, TUNED, draws)
        if one is not None:
            record = ForgettingRecord.model_validate({"domain": domain, **one._asdict()})
            found.append(record)
    return found


def _flips(base: pl.DataFrame, again: Answered) -> FlipsRecord:
    assert isinstance(again.variant, Again)
    found = flipped(base, again.answers)
    return FlipsRecord.model_validate({"batch": again.variant.batch, **found._asdict()})


def chance_of(card: MasteryCard, rows: pl.DataFrame) -> MasteryChangeRecord | None:
    """Return what chance alone does to the levels of the facts asked; None without several draws.

    Args:
        card: the base's mastery card.
        rows: the facts asked: fact_id, relation, answers.
    """
    hits = card.frame.join(rows.select("fact_id"), on="fact_id", how="semi")
    draws = hits["draws"]
    # A card of probabilities (the default estimator) was not drawn: it holds no chance to show.
    if hits.is_empty() or draws.null_count() or draws.min() < 2:  # type: ignore[operator]
        return None
    facts = rows.select("fact_id", "relation", answer=pl.col("answers").list.first())
    return MasteryChangeRecord.model_validate(mastery_change(facts, hits))
