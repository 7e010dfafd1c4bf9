"""The terms of a gate: what a command or a test says, else the baseline, else the defaults."""

from __future__ import annotations

from collections.abc import Sequence

from sftbench.analysis.gate import Terms
from sftbench.common.errors import SftbenchError
from sftbench.gate.endpoints import DEFAULT, parse_endpoint

DEFAULTS = Terms(margin=0.02, alpha=0.05, primary=(DEFAULT,), seeds=1)


def chosen_terms(
    declared: Terms | None,
    *,
    margin: str | float | None = None,
    alpha: float | None = None,
    primary: str | Sequence[str] | None = None,
    seeds: int | None = None,
) -> tuple[Terms, list[str]]:
    """Return the terms, and a sentence for each that is not the one declared with the baseline.

    Args:
        declared: those of the baseline; None for the defaults.
        margin: see `parse_margin`.
        alpha: one-sided error of a pass at the margin.
        primary: names of the endpoints that decide.
        seeds: runs that the candidate must come with.

    Raises:
        SftbenchError: a term that makes no gate.
    """
    named = [primary] if isinstance(primary, str) else primary
    try:
        said = {
            "margin": None if margin is None else parse_margin(str(margin)),
            "alpha": None if alpha is None else _alpha(float(alpha)),
            "primary": tuple(parse_endpoint(one).name for one in named) if named else None,
            "seeds": None if seeds is None else _seeds(int(seeds)),
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise SftbenchError(
            f"a term of the gate cannot be read ({error})",
            remedy="margin='2pp', alpha=0.05, primary='retention:in' (or several), seeds=3",
        ) from None
    before = (DEFAULTS if declared is None else declared).model_dump()
    chosen = {name: before[name] if said[name] is None else said[name] for name in before}
    notes = [
        f"The baseline declares {name} {_shown(before[name])}; {_shown(chosen[name])} is used."
        for name in before
        if declared is not None and chosen[name] != before[name]
    ]
    return Terms.model_validate(chosen), notes


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def parse_margin(text: str) -> float:
    """Return a margin as a fraction: "2pp" (percentage points) or "0.02".

    Raises:
        SftbenchError: it is neither, or not between 0 and 100 points.
    """
    number = text.strip().removesuffix("pp")
    try:
        value = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise SftbenchError(
            f"a margin of {text!r} is none",
            where="--margin",
            remedy="Name percentage points above 0 and below 100, such as 2pp, or a fraction, "
            "such as 0.02.",
        )
    return value


def _alpha(value: float) -> float:
    if not 0 < value < 0.5:
        raise SftbenchError(
            f"an alpha of {value:g} is none",
            where="--alpha",
            remedy="Name a probability above 0 and below 0.5, such as 0.05.",
        )
    return value


def _seeds(value: int) -> int:
    if value < 1:
        raise SftbenchError(
            f"{value} runs are none", where="--seeds", remedy="Name a number from 1."
        )
    return value
