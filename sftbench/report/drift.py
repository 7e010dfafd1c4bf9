"""How the predictions moved, from the summary's records to the rows and charts of the page."""

from __future__ import annotations

from typing import Any, NamedTuple

from sftbench.analysis.drift import By, DriftResult, DriftRow, PaperRow
from sftbench.analysis.summary import BASE, Summary, VariantResult
from sftbench.report.drift_words import FORM_NAMES, name_of
from sftbench.report.rule_names import rule_of
from sftbench.report.words import at_a_glance, label

SET_BACK = frozenset(("relative", "absolute", "random", "lowest-relative", "ties", "fapm"))
"""Criteria that set scalars back and leave the others as they are."""
SMALLEST = 1e-6
"""Nats: charts on a log scale show nothing below."""


class Line(NamedTuple):
    """A variant's mean divergence at one position."""

    name: str
    series: str
    position: int
    value: float
    low: float | None
    high: float | None


class Together(NamedTuple):
    """How retention, drift and the size of the update go together in one variant.

    Attributes:
        kl: KL(variant || base) over the answers of question texts, of this domain, nats.
        retention: mean over levels, percent.
        norm: of what is left of the update over that of the fine-tune's, percent.
    """

    name: str
    series: str
    kl: float
    retention: float
    norm: float


def variants(summary: Summary) -> list[str]:
    """Return the variants that tables show, noise and the floor last."""
    return list(dict.fromkeys(one.variant for one in _drift(summary).rows))


def series_of(summary: Summary, variant: str) -> str:
    """Return "tuned", "restored", "noise" or "floor"."""
    drift = _drift(summary)
    if variant == drift.floor:
        return "floor"
    if variant in drift.nulls:
        return "noise"
    return "tuned" if variant == summary.tuned.name else "restored"


def keys(summary: Summary, form: str, by: By) -> list[str]:
    """Return what the tuned model has figures by, in the order in which they are shown."""
    found = [
        one.key
        for one in _drift(summary).rows
        if (one.variant, one.form, one.by) == (summary.tuned.name, form, by)
    ]
    order = ("lead-in", "answer", "end")
    return sorted(found, key=order.index) if by == "kind" else found


def by_relation(summary: Summary) -> list[tuple[str, DriftRow | None, DriftRow | None]]:
    """Return the tuned model's figures of each relation in both forms, the largest first."""
    drift, tuned = _drift(summary), summary.tuned.name
    names = list(dict.fromkeys([*keys(summary, "question", "relation")]))
    rows = [
        (
            name,
            drift.row(tuned, "cloze", "relation", name),
            drift.row(tuned, "question", "relation", name),
        )
        for name in names
    ]
    return sorted(rows, key=lambda row: -(row[2].tuned_base.value if row[2] else 0.0))


def paper_rows(summary: Summary) -> list[tuple[str, list[PaperRow | None]]]:
    """Return the paper's figure of each variant: at levels 0 to 4, then of all levels."""
    drift = _drift(summary)
    return [
        (
            name_of(summary, variant),
            [drift.paper_row(variant, level) for level in (0, 1, 2, 3, 4, None)],
        )
        for variant in variants(summary)
    ]


def _lines(summary: Summary, form: str) -> list[Line]:
    shown = {label(one) for one in at_a_glance(summary)}
    found = []
    for one in _drift(summary).rows:
        series = series_of(summary, one.variant)
        name = name_of(summary, one.variant)
        if (one.form, one.by) != (form, "position") or (series == "restored" and name not in shown):
            continue
        mean = one.tuned_base
        found.append(
            Line(
                name,
                series,
                int(one.key),
                max(mean.value, SMALLEST),
                None if mean.low is None else max(mean.low, SMALLEST),
                None if mean.high is None else max(mean.high, SMALLEST),
            )
        )
    return found


def together(summary: Summary, domain: str) -> list[Together]:
    """Return every variant with a retention score and a divergence, the base at its place."""
    drift = _drift(summary)
    found = []
    for variant in (*summary.variants[1:], *summary.perturbed):
        row = drift.row(variant.name, "question", "domain", domain)
        result = variant.domain(domain)
        if row is None or result is None or result.retention.score is None:
            continue
        found.append(
            Together(
                name_of(summary, variant.name),
                series_of(summary, variant.name),
                max(row.tuned_base.value, SMALLEST),
                100 * result.retention.score,
                100 * _left(summary, variant),
            )
        )
    return found


def _left(summary: Summary, variant: VariantResult) -> float:
    """Return the norm of what a variant has left of the update, as a part of the whole.

    Rules that neither set scalars back nor mix both models are shown like the fine-tune.
    """
    removed = (variant.restore or {}).get("distance")
    whole = summary.run.update_norm
    if not removed or not whole:
        return 1.0
    part, rule = min(1.0, removed / whole), rule_of(variant)
    if rule is not None and rule.criterion == "interpolation":
        return float(1 - part)  # every scalar goes a part of its way back
    if rule is not None and rule.criterion not in SET_BACK:
        return 1.0
    # What is set back and what stays are other scalars, so that their squares add up.
    return float((1 - part**2) ** 0.5)


def chart_data(summary: Summary) -> dict[str, Any]:
    """Return what the page's script draws, ready for JSON; {} where nothing was measured."""
    if summary.drift is None:
        return {}
    return {
        "drift": {
            form: [one._asdict() for one in _lines(summary, form)]
            for form in FORM_NAMES
            if _lines(summary, form)
        },
        "together": {
            domain: [one._asdict() for one in together(summary, domain)]
            for domain in summary.domains
        },
    }


def _drift(summary: Summary) -> DriftResult:
    if summary.drift is None:
        raise ValueError(f"the drift of {summary.tuned.name} from the {BASE} was not measured")
    return summary.drift
