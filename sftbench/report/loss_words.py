"""The sentences, names and terms that say what kind of loss it is: on the page and elsewhere."""

from __future__ import annotations

from sftbench.analysis.loss import Form, LossKinds, LossResult
from sftbench.analysis.summary import DOMAIN_NAMES, TUNED
from sftbench.report.words import count, listed

FORM_NAMES: dict[Form, str] = {
    "longer": "longer budget",
    "fewshot": "few-shot",
    "paper": "bare question",
    "chat": "chat",
}

TERMS: tuple[tuple[str, str], ...] = (
    (
        "Kind of loss",
        "What became of a fact that the base answers and a variant does not. Format: the variant "
        "says it with a longer budget, with another prompt or as a chat. Access: not there "
        "either, but under the prompts that measure mastery it is still known. Knowledge: there it "
        "is credibly less known, by a quarter of its mastery rate or more, measured again for both "
        "models. "
        "Undecided: the base states the fact too rarely there for a loss to be seen.",
    ),
    (
        "Against itself",
        "The tuned model's losses that are none of format, with the base measured once more in "
        "its place: whatever is called a loss of knowledge there is called so by mistake.",
    ),
    (
        "Calibration",
        "Whether a model's probability for its own answer says how often that is right. ECE: the "
        "mean distance of the two over bins of equal size; by chance: what a perfectly "
        "calibrated model with these probabilities shows on average and, in brackets, stays below "
        "in 95 % of cases, since the share that is right in a bin is never quite its probability. "
        "Brier: mean squared distance of probability and "
        "outcome. AUROC: how often a right answer is more probable than a wrong one (50 % is "
        "guessing).",
    ),
)


def loss_sentence(loss: LossResult) -> str:
    """Return what kinds of facts the tuned model lost, and how often the classing is mistaken.

    Such as "Of 60 lost facts in-domain, 21 are a matter of form, 14 of access, 20 are credibly
    less known; 5 cannot be told. The base measured against itself would be called less known in 1
    of 39. Of 40 facts that both answer, 3 are less known, too." Losses of form are not measured.
    """
    tuned = [one for one in loss.kinds if one.variant == TUNED]
    said = [_of_domain(one) for one in tuned]
    itself = [one for one in loss.against_itself if one.counts.lost]
    mistaken = [
        f"{one.counts.knowledge:,} of {one.counts.lost:,}"
        + (f" {DOMAIN_NAMES[one.domain]}" if len(itself) > 1 else "")
        for one in itself
    ]
    if mistaken:
        said.append(
            f"The base measured against itself would be called less known in {listed(mistaken)}."
        )
    fallen = sum(one.counts.knowledge for one in loss.kept)
    both = sum(one.counts.lost for one in loss.kept)
    if both:
        said.append(f"Of {count(both, 'fact')} that both answer, {_are(fallen)} less known, too.")
    return " ".join(said)


def _of_domain(one: LossKinds) -> str:
    found, where = one.counts, DOMAIN_NAMES[one.domain]
    if not found.lost:
        return f"No fact was lost {where}."
    untold = f"; {found.undecided:,} cannot be told" if found.undecided else ""
    return (
        f"Of {count(found.lost, 'lost fact')} {where}, {_are(found.format)} a matter of form, "
        f"{found.access:,} of access, {_are(found.knowledge)} credibly less known{untold}."
    )


def _are(number: int) -> str:
    return f"{number:,} {'is' if number == 1 else 'are'}"


def more_tries_sentence(loss: LossResult) -> str:
    """Return what the other forms find where nothing was lost, "" where that was not asked.

    More tries find more by themselves: it says how many of the losses of form may be just that.
    """
    said = [
        f"{one.came:,} of {one.asked:,} {DOMAIN_NAMES[one.domain]}"
        for one in loss.more_tries
        if one.asked
    ]
    if not said:
        return ""
    return (
        "More tries find more by themselves: of facts that base and tuned model both had wrong, "
        f"the tuned model got {listed(said)} right in one of the other forms."
    )


def asked_again(loss: LossResult) -> str:
    """Return how lost facts were asked again, and what measured their mastery."""
    forms = listed([FORM_NAMES[one] for one in loss.forms]) or "none"
    return (
        f"Further forms: {forms}; at most {count(loss.budget, 'token')}. Mastery was measured "
        f"again by the {loss.estimator} estimator."
    )
