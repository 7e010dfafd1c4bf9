"""Does the gate pass a loss of its margin no more often than it says? By simulation.

Runs of two recipes are drawn from a world whose true figures are known; counted is how often the
gate passes, and how often it calls the candidate inferior. docs/ci.md shows the table of

    python benchmarks/gate.py --draws 4000

(The same worlds at a modest size are a test: tests/unit/test_noninferiority.py.)

An answer is right where a sum of normal deviates, of the fact's answer (cluster) and of itself,
falls below a threshold, drawn anew for each run; a run's share varies around its recipe's.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from sftbench.analysis.design import Design
from sftbench.analysis.noninferiority import PASSING, Contrast, verdict_of
from sftbench.analysis.power import Planned, chances

ALPHA = 0.05
DISCORDANCE = 0.15
"""Share of the facts that two runs of one recipe answer differently."""


@dataclass(frozen=True)
class World:
    """Two recipes.

    Attributes:
        name: in words.
        facts: how many.
        levels: that are averaged.
        margin: of the gate.
        runs: of the baseline and of the candidate.
        clusters: different answers; None for one for each fact.
        together: share of an answer's luck that is its cluster's.
        whole: the baseline answers all, and the loss is of whole clusters.
        between: standard deviation of a recipe's share between runs, of the baseline and of the
            candidate.
    """

    name: str
    facts: int
    levels: int
    margin: float
    runs: tuple[int, int] = (1, 1)
    clusters: int | None = None
    together: float = 0.0
    between: tuple[float, float] = (0.0, 0.0)
    whole: bool = False

    @property
    def planned(self) -> Planned:
        """What `sftbench gate power` plans with."""
        return Planned(
            sizes=(self.facts / self.levels,) * self.levels,
            discordance=(DISCORDANCE,) * self.levels,
            deff=1.0 if self.clusters is None else self._deff,
            between=math.sqrt(sum(one**2 for one in self.between) / 2),
            baseline_runs=self.runs[0],
            candidate_runs=self.runs[1],
        )

    @property
    def _deff(self) -> float:
        """The design effect as two runs of one recipe show it, the mean of 50 pairs."""
        rng = np.random.default_rng(1)
        design = design_of(self.facts, self.levels, self.clusters)
        right = share_for(DISCORDANCE)
        pairs = (drawn(rng, design, 2, right, together=self.together) for _ in range(50))
        return float(np.mean([design.spread(after - before).deff for before, after in pairs]))


WORLDS = (
    World("1,000 facts alike", 1000, 1, 0.03),
    World("400 facts in 4 levels", 400, 4, 0.06),
    World("80 facts in 4 levels", 80, 4, 0.12),
    World("400 facts, 60 answers that hang together", 400, 4, 0.06, clusters=60, together=0.25),
    World("3 runs of each, no spread of their own", 400, 4, 0.06, (3, 3)),
    World("3 runs of each, spread 2 points", 400, 4, 0.08, (3, 3), between=(0.02, 0.02)),
    World("3 runs of each, spread 4 points", 400, 4, 0.12, (3, 3), between=(0.04, 0.04)),
    World("3 runs and 1, spread 2 points", 400, 4, 0.12, (3, 1), between=(0.02, 0.02)),
    World("2 and 5 runs, spread 3 points, 60 answers", 400, 4, 0.12, (2, 5), 60, 0.25, (0.03,) * 2),
    World("400 facts, 60 answers, lost as a whole", 400, 4, 0.06, clusters=60, whole=True),
    World("400 facts, 20 answers, lost as a whole", 400, 4, 0.03, clusters=20, whole=True),
)
OUTSIDE = (
    World("1 run of each, spread 2 points", 400, 4, 0.06, between=(0.02, 0.02)),
    World("1 run of each, spread 3 points", 400, 4, 0.06, between=(0.03, 0.03)),
    World("3 runs, spread 1; 1 run, spread 3 points", 400, 4, 0.08, (3, 1), between=(0.01, 0.03)),
)
"""What the gate does not promise: one run shows nothing of how runs vary."""


def design_of(n: int, levels: int = 1, clusters: int | None = None) -> Design:
    """Return facts spread over levels and two relations; answers are shared by as many as asked."""
    return Design.of(
        pl.DataFrame(
            {
                "fact_id": [f"{i:06d}" for i in range(n)],
                "level": [1 + i % levels for i in range(n)],
                "relation": [f"r{i % 2}" for i in range(n)],
                "answer": [str(i // 2 * 7919 % (clusters or n)) for i in range(n)],
            }
        )
    )


def share_for(discordance: float) -> float:
    """Return the share right at which two independent runs differ on so many facts."""
    return (1 + math.sqrt(1 - 2 * discordance)) / 2


def drawn(
    rng: np.random.Generator,
    design: Design,
    runs: int,
    right: float,
    *,
    between: float = 0.0,
    together: float = 0.0,
) -> np.ndarray:
    """Return answers ``[runs, facts]`` of a recipe whose runs get this share right on average."""
    found = []
    for _ in range(runs):
        share = np.clip(right + between * rng.normal(), 1e-9, 1 - 1e-9)
        of_cluster = rng.normal(size=design.clusters)[design.cluster]
        of_fact = rng.normal(size=design.n)
        latent = math.sqrt(together) * of_cluster + math.sqrt(1 - together) * of_fact
        found.append((latent < ndtri(share)).astype(float))
    return np.stack(found)


def simulated(world: World, loss: float, draws: int, seed: int = 7) -> dict[str, float]:
    """Return the share of each verdict where the candidate truly loses so much (a fraction)."""
    rng = np.random.default_rng(seed)
    design = design_of(world.facts, world.levels, world.clusters)
    right = share_for(DISCORDANCE)
    found: Counter[str] = Counter()
    for _ in range(draws):
        if world.whole:
            baseline = np.ones((1, design.n))
            candidate = 1.0 - (rng.random(design.clusters) < loss)[design.cluster][None, :]
        else:
            baseline, candidate = (
                drawn(rng, design, runs, share, between=between, together=world.together)
                for runs, share, between in zip(
                    world.runs, (right, right - loss), world.between, strict=True
                )
            )
        bounds = Contrast.of(design, baseline, candidate).bounds(ALPHA)
        found[verdict_of(bounds, world.margin)] += 1
    return {name: count / draws for name, count in found.items()}


def passing(verdicts: dict[str, float]) -> float:
    """Return the share of passes."""
    return sum(verdicts.get(name, 0.0) for name in PASSING)


def line(world: World, draws: int) -> str:
    """Return a line of the table."""
    at_margin, same = (simulated(world, loss, draws) for loss in (world.margin, 0.0))
    told = chances(world.planned, 0.0, world.margin, ALPHA).passes
    planned = "" if world.whole else f"{told:.0%}"
    return (
        f"| {world.name} | {100 * world.margin:g} | {passing(at_margin):.1%} "
        f"| {at_margin.get('inferior', 0.0):.1%} | {passing(same):.0%} | {planned} |"
    )


def main() -> None:
    """Simulate every world and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print(
        "| | margin, points | a loss of the margin passes | is called inferior "
        "| no loss passes | as planned |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        every = (*WORLDS, *OUTSIDE)
        for text in pool.map(line, every, [draws] * len(every)):
            print(text, flush=True)


if __name__ == "__main__":
    main()
