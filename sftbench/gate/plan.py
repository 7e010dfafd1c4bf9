"""What a gate on a baseline will be able to see, told before anyone relies on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.gate import Terms
from sftbench.analysis.noninferiority import least_deff
from sftbench.analysis.power import (
    Chances,
    Planned,
    chances,
    discordance_of,
    facts_needed,
    loss_seen,
)
from sftbench.common.errors import SftbenchError
from sftbench.gate.endpoints import parse_endpoint
from sftbench.gate.judge import known_facts
from sftbench.gate.sides import Side

if TYPE_CHECKING:
    import polars as pl

    from sftbench.analysis.design import Floats

LOSSES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""True losses that are told of, in margins."""
ASSUMED = 0.15
"""Share of facts that two runs answer differently, where nothing shows it."""


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
        planned, assumed = _planned(side, design, known, terms, discordance)
        found.append(sight(name, planned, assumed, terms))
    return found


def _planned(
    side: Side,
    design: Design,
    known: pl.DataFrame,
    terms: Terms,
    discordance: float | None,
) -> tuple[Planned, str]:
    right = side.right(design)
    shown, assumed = _differing(side, design, known, right)
    if discordance is None:
        # One fact more in each level that differs as facts do on the whole: few facts show little.
        shares = (design.means(shown) * design.sizes + shown.mean()) / (design.sizes + 1)
    else:
        shares, assumed = np.full(len(design.levels), discordance), "as you say"
    deff = _together(design, known, right)
    planned = Planned(
        sizes=tuple(map(float, design.sizes)),
        discordance=tuple(float(max(one, 1e-3)) for one in shares),
        deff=deff,
        df=design.df(deff),
        baseline_runs=len(right),
        candidate_runs=terms.seeds,
    )
    figures = [design.mean(run) for run in right]
    seen = float(np.var(figures, ddof=1)) if len(figures) > 1 else 0.0
    return replace(planned, between=math.sqrt(max(0.0, seen - planned.anew))), assumed


def _differing(
    side: Side, design: Design, known: pl.DataFrame, right: Floats
) -> tuple[Floats, str]:
    """Return how likely another run answers each fact otherwise, and where that comes from."""
    shown = discordance_of(right)
    if shown is not None:
        return shown, f"as between the {len(right)} runs"
    if side.base is None or known["base"].null_count():
        return np.full(design.n, ASSUMED), "assumed: one run shows nothing of another"
    changed = np.abs(right[0] - value_column(known, design, "base"))
    return changed, "as between base and tuned model: one run shows nothing of another"


def _together(design: Design, known: pl.DataFrame, right: Floats) -> float:
    """Return the design effect to plan with: the largest that a change known here shows.

    Runs of one recipe hardly differ and show little of how facts hang together; what the
    fine-tune did to the base shows more.
    """
    before = [] if known["base"].null_count() else [value_column(known, design, "base")]
    changes = [later - earlier for earlier, later in combinations([*before, *right], 2)]
    return max(
        (max(design.spread(one).deff, least_deff(design, one)) for one in changes), default=1.0
    )
