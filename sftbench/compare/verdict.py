"""What a check says in the end: a few sentences, and the lost facts that tell most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sftbench.analysis.summary import DOMAIN_NAMES, DomainResult, Summary, VariantResult
from sftbench.report.drift_words import drift_sentence
from sftbench.report.loss_words import loss_sentence
from sftbench.report.restores import repair_sentence
from sftbench.report.rule_names import chosen_of, papers_alone
from sftbench.report.words import (
    amount,
    clip,
    count,
    difference,
    label,
    noise_sentence,
    p_value,
    share,
    short_name,
    verdict,
)

if TYPE_CHECKING:
    import polars as pl

TELLING = 5
"""Lost facts that a verdict shows."""


def sentences(summary: Summary) -> tuple[str, ...]:
    """Return what was kept, whether noise does as well, what was lost, and what a restore does.

    Every share and difference comes with its 95 % interval.
    """
    found = (
        verdict(summary),
        noise_sentence(summary),
        _accuracy(summary),
        "" if summary.loss is None else loss_sentence(summary.loss),
        "" if summary.drift is None else drift_sentence(summary.drift),
        repair_sentence(summary),
        _restored(summary),
    )
    return tuple(one for one in found if one)


def _accuracy(summary: Summary) -> str:
    lost, gained = _outcomes(summary.tuned)
    balanced = "" if summary.run.facts.limit is None else ", balanced over mastery levels,"
    right = [sum(map(_right, one.domains)) for one in (summary.base, summary.tuned)]
    asked = sum(one.n for one in summary.base.domains)
    return (
        f"Of {count(asked, 'fact')}{balanced} the base answers {right[0]:,} right and "
        f"{short_name(summary.run.tuned.name)} {right[1]:,}: {lost:,} lost, {gained:,} gained "
        f"({_changes(summary)})."
    )


def _right(result: DomainResult) -> int:
    return sum(level.right for level in result.levels)


def _changes(summary: Summary) -> str:
    """Return the accuracies of each domain and their difference, with intervals and exact p."""
    pair = summary.pair(summary.base.name, summary.tuned.name)
    parts = []
    for before, after in zip(summary.base.domains, summary.tuned.domains, strict=True):
        shares = [share(_right(one) / one.n, one.facts_interval) for one in (before, after)]
        said = f"{DOMAIN_NAMES[before.domain]} {' to '.join(shares)}"
        found = pair.domain(before.domain) if pair else None
        if found is not None:
            change = found.facts.difference
            said += f", {difference(change.value, change)}, exact p {p_value(found.facts.p)}"
        parts.append(said)
    return "; ".join(parts)


def _outcomes(variant: VariantResult) -> tuple[int, int]:
    outcomes = [one.outcomes for one in variant.domains]
    return sum(one.lost for one in outcomes), sum(one.gained for one in outcomes)


def _restored(summary: Summary) -> str:
    """Return what the restores do that were not chosen on other facts; "" where all were."""
    chosen = chosen_of(summary)
    restored = [one for one in summary.restored if chosen is None or one.name != chosen.name]
    if not restored:
        return "" if summary.repair else "No restore was tried; --restore 5,20 tries two."
    lost, gained = _outcomes(summary.tuned)
    if not lost:
        return "There is nothing to restore: no fact was lost."
    alone = papers_alone(summary)
    plain = [one for one in restored if alone or label(one) == f"restored {_amount(one)}"]
    names = {one.name: label(one) for one in restored} | {one.name: _amount(one) for one in plain}
    if plain:
        names[plain[0].name] = f"setting back {_amount(plain[0])} of the parameters"
    parts = [f"{names[one.name]} {_brought_back(one, gained)}" for one in restored]
    return f"Of {count(lost, 'lost fact')}, {'; '.join(parts)}."


def _amount(variant: VariantResult) -> str:
    """Return how much the paper's way sets back."""
    return amount(variant.percent or 0)


def _brought_back(variant: VariantResult, gained: int) -> str:
    repairs = [one.repair for one in variant.domains if one.repair]
    healed, kept = sum(one.healed for one in repairs), sum(one.preserved for one in repairs)
    keeps = f" and keeps {kept:,} of {gained:,} gained" if gained else ""
    return f"brings back {healed:,}{keeps}"


def telling_facts(lost: pl.DataFrame, shown: int = TELLING) -> Sequence[dict[str, str]]:
    """Return the lost facts that tell most, as text.

    Args:
        lost: as returned by `sftbench.analysis.changes.lost_facts`, most telling first.
        shown: how many.

    Returns:
        question, answer, before, after, level and change (of the answer's log-probability in
        nats) of each.
    """
    return [
        {
            "question": row["question"],
            "answer": clip(row["answer"]).shown,
            "before": clip(row["base_text"]).shown,
            "after": clip(row["tuned_text"]).shown or "(nothing)",
            "level": str(row["level"]),
            "change": f"{row['tuned_logprob'] - row['base_logprob']:+.1f}",
        }
        for row in lost.head(shown).iter_rows(named=True)
    ]
