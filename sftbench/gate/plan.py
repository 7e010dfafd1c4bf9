"""What a gate on a baseline will be able to see, told before anyone relies on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.gate import Terms
from sftbench.analysis.power import (
    Chances,
    Planned,
    chances,
    discordance_of,
    facts_needed,
    loss_seen,
)
from sftbench.common.errors import SftbenchError
from sftbench.gate.endpoints import Endpoint, parse_endpoint
from sftbench.gate.judge import known_facts
from sftbench.gate.sides import Side

if TYPE_CHECKING:
    import polars as pl

    from sftbench.analysis.design import Floats

LOSSES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""True losses that are told of, in margins."""


@dataclass(frozen=True)
class Sight:
    """What a gate can see in one endpoint.

    Attributes:
        name: the endpoint's.
        planned: what it rests on.
        assumed: where the share of facts that differ between two runs comes from, in words.
        losses: true losses (fractions) with the chance of each verdict.
        seen: smallest true loss that is called inferior with 80 % probability; None if none is.
        needed: facts with which an unchanged recipe passes with 80 % probability; None if no
            reasonable number does.
    """

    name: str
    planned: Planned
    assumed: str
    losses: tuple[tuple[float, Chances], ...]
    seen: float | None
    needed: int | None


def sight(name: str, planned: Planned, assumed: str, terms: Terms) -> Sight:
    """Return what a gate with these terms sees."""
    margin, alpha = terms.margin, terms.alpha
    return Sight(
        name=name,
        planned=planned,
        assumed=assumed,
        losses=tuple(
            (loss * margin, chances(planned, -loss * margin, margin, alpha)) for loss in LOSSES
        ),
        seen=loss_seen(planned, margin, alpha),
        needed=facts_needed(planned, margin, alpha),
    )


def sights_of(side: Side, terms: Terms, discordance: float | None = None) -> list[Sight]:
    """Return what a gate on these accepted runs sees in each primary endpoint.

    Args:
        side: the accepted runs.
        terms: what is declared with them; the candidate is taken to come with `terms.seeds` runs.
        discordance: share of facts that two runs answer differently, where it is known better.

    Raises:
        SftbenchError: a primary endpoint rests on no fact.
    """
    known = known_facts(side, side)
    found = []
    for name in terms.primary:
        endpoint = parse_endpoint(name)
        design = endpoint.design(known)
        if design is None:
            raise SftbenchError(
                f"the primary endpoint {name} rests on no fact",
                where=side.name,
                remedy="Declare another with --primary; retention also needs the base's answers.",
            )
        planned, assumed = _planned(side, endpoint, design, known, terms, discordance)
        found.append(sight(name, planned, assumed, terms))
    return found


def _planned(
    side: Side,
    endpoint: Endpoint,
    design: Design,
    known: pl.DataFrame,
    terms: Terms,
    discordance: float | None,
) -> tuple[Planned, str]:
    right = side.right(design)
    shown = discordance_of(right)
    if discordance is not None:
        share, assumed = discordance, "as you say"
    elif shown is not None:
        share, assumed = shown, f"as between the {len(right)} runs"
    else:
        share, assumed = _against_base(side, design, known, right)
    change = right[-1] - right[0] if len(right) > 1 else right[0] - right[0].mean()
    spread = design.spread(change)
    figures = [design.mean(run) for run in right]
    return (
        Planned(
            sizes=tuple(map(float, design.sizes)),
            discordance=max(share, 1 / design.n),
            deff=spread.deff,
            df=spread.df,
            between=float(np.std(figures, ddof=1)) if len(figures) > 1 else 0.0,
            baseline_runs=len(right),
            candidate_runs=terms.seeds,
        ),
        assumed,
    )


def _against_base(
    side: Side,
    design: Design,
    known: pl.DataFrame,
    right: Floats,
) -> tuple[float, str]:
    """Return a stand-in for the change between runs: what the fine-tune changed."""
    if side.base is None or known["base"].null_count():
        return 0.15, "assumed: one run shows nothing of another"
    base = value_column(known, design, "base")
    changed = float((right[0] != base).mean())
    return changed, "as between base and tuned model: one run shows nothing of another"
