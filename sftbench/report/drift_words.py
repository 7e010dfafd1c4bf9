"""The sentences and names that say how the predictions moved: on the page and elsewhere."""

from __future__ import annotations

from sftbench.analysis.drift import PAPER_LEVEL, DriftResult, Mean, PaperRow
from sftbench.analysis.summary import TUNED, Summary
from sftbench.report.words import count, label

FORM_NAMES = {"cloze": "cloze", "question": "question"}
KIND_NAMES = {"lead-in": "lead-in", "answer": "answer", "end": "end"}
NOTHING = 1e-6
"""Nats: a mean below has no interval worth the room."""
FLOOR_NAME = "base read again"


def name_of(summary: Summary, variant: str) -> str:
    """Return how a variant is shown; the noise floor and random changes by what they are."""
    drift = summary.drift
    if drift is not None and variant == drift.floor:
        return FLOOR_NAME
    return next((label(one) for one in summary.every if one.name == variant), variant)


def plain_name(variant: str) -> str:
    """Return how a variant is shown where there is no comparison: "restore(relative,5%)"."""
    return FLOOR_NAME if variant == "base+again(1)" else variant.removeprefix("tuned+")


def nats_of(mean: Mean | None) -> str:
    """Return a mean divergence with three digits, "–" where there is none."""
    return "–" if mean is None else f"{mean.value:.3g}"


def bounds_of(mean: Mean | None) -> str:
    """Return the interval of a mean divergence in brackets, "" where there is none."""
    if mean is None or mean.low is None or mean.high is None or mean.value < NOTHING:
        return ""
    return f"[{mean.low:.2g}, {mean.high:.2g}]"


def drift_sentence(drift: DriftResult) -> str:
    """Return how far the tuned model's answers lie from the base's, and what noise does."""
    tuned, floor, *nulls = (
        [drift.row(name, form, "kind", "answer") for form in FORM_NAMES]
        for name in (TUNED, drift.floor or "", *drift.nulls)
    )
    parts = [f"{one.tuned_base.value:.3g} in {FORM_NAMES[one.form]} texts" for one in tuned if one]
    bound = "" if drift.exact else "at least "
    said = (
        "Over the tokens of answers, KL(tuned || base) is "
        f"{bound}{' and '.join(parts)}, in nats a token"
    )
    if any(floor):
        said += f"; the base read again is {max(one.tuned_base.value for one in floor if one):.1g} "
        said += "from itself"
    of_noise = [one.tuned_base.value for null in nulls for one in null if one]
    if of_noise:
        said += f", random changes of that size {max(of_noise):.2g} at most"
    return f"{said}."


def paper_sentence(drift: DriftResult) -> str:
    """Return the paper's figure of the tuned model, or why there is none."""
    found = drift.paper_row(TUNED)
    if found is not None:
        facts = count(found.kl.n, f"level-{PAPER_LEVEL} fact")
        return f"The paper's figure (ten logits, {facts}): {found.kl.value:.3g} nats{_but(found)}."
    every = drift.paper_row(TUNED, None)
    if every is None:
        return "The paper's figure cannot be given: no fact that the base completes early."
    return (
        f"The paper takes facts of level {PAPER_LEVEL}, of which there are none here that the "
        f"base completes early; over {count(every.kl.n, 'fact')} of all levels its figure is "
        f"{every.kl.value:.3g} nats{_but(every)}."
    )


def _but(row: PaperRow) -> str:
    """Return which facts a figure of the paper lacks, and what that does to it."""
    if not row.left_out:
        return ""
    return (
        f"; {count(row.left_out, 'fact')} moved too far for the tokens that the engine shows, so "
        "that it is likely too small"
    )
