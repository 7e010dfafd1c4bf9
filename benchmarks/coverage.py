"""Do the intervals cover, and do the tests err no more often than they say? By simulation.

Facts, answers and runs are drawn from a world whose true figures are known, thousands of times;
for each method it is counted how often its 95 % interval holds the truth, or how often it sees a
difference where there is none. docs/statistics.md shows the table of

    python benchmarks/coverage.py --draws 2000

(The same worlds at a modest size are a test: tests/unit/test_coverage.py.)

A fact is right where a sum of normal deviates, of its answer (cluster), of the run, of itself and
of chance, falls below a threshold: so the probability of each level is exactly what is set, and
what facts of a cluster share is what is set, too.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from scipy.special import ndtri

from sftbench.analysis.design import Design
from sftbench.analysis.estimates import Estimate, difference, share
from sftbench.analysis.exact import holm, mcnemar, sign_flip
from sftbench.analysis.mastery_change import Rate, mastery_change
from sftbench.analysis.noise import forgetting
from sftbench.analysis.seeds import share_over_runs

Random = np.random.Generator
MASTERED = (0.05, 0.30, 0.60, 0.85, 0.95)
"""Accuracy at level 0 to 4, such as a base has."""
RETAINED = (0.80, 0.90, 0.95, 0.97)
"""Retention at level 1 to 4 after a mild fine-tune."""


@dataclass(frozen=True)
class World:
    """How many facts there are, how they hang together, and how often they are right.

    Attributes:
        name: what the table calls it.
        facts: how many.
        relations: strata.
        answers: clusters of each relation; 0 gives every fact an answer of its own.
        skew: exponent by which some answers are more frequent than others (Zipf).
        shared: correlation that facts of a cluster have.
        right: probability of each level.
        levels: share of the facts in each level; None for equal shares.
    """

    name: str
    facts: int
    relations: int
    answers: int
    skew: float = 0.0
    shared: float = 0.0
    right: tuple[float, ...] = MASTERED
    levels: tuple[float, ...] | None = None

    def draw(self, rng: Random, first_level: int = 0) -> tuple[pl.DataFrame, Design]:
        """Return facts (as `Design.of` takes them) and their design."""
        answers = np.arange(self.facts)
        if self.answers:
            weight = 1 / np.arange(1, self.answers + 1) ** self.skew
            answers = rng.choice(self.answers, self.facts, p=weight / weight.sum())
        level = rng.choice(len(self.right), self.facts, p=self.levels) + first_level
        frame = pl.DataFrame(
            {
                "fact_id": [f"{number:06d}" for number in range(self.facts)],
                "level": level,
                "relation": [
                    f"r{number}" for number in rng.integers(0, self.relations, self.facts)
                ],
                "answer": [f"a{number}" for number in answers],
            }
        )
        return frame, Design.of(frame)

    def probabilities(self, design: Design, first_level: int = 0) -> np.ndarray:
        """Return the probability of each fact, ``[facts]``."""
        by_level = np.asarray(self.right)[np.asarray(design.levels) - first_level]
        return by_level[design.level]

    def deviates(self, rng: Random, design: Design, rest: float = 1.0) -> np.ndarray:
        """Return normal deviates of variance `rest` that correlate within clusters, ``[facts]``."""
        of_cluster = rng.standard_normal(design.clusters)[design.cluster]
        own = rng.standard_normal(design.n)
        return math.sqrt(self.shared) * of_cluster + math.sqrt(rest - self.shared) * own


WORLDS = (
    World("100 facts, answers of their own", 100, 5, 0),
    World("1,000 facts, answers of their own", 1000, 5, 0),
    World("400 facts, 5 x 40 answers, skewed, shared 0.3", 400, 5, 40, 1.0, 0.3),
    World("100 facts, 10 answers", 100, 1, 10, 0.0, 0.3),
    World("100 facts, 10 answers, one of them frequent", 100, 1, 10, 1.5, 0.3),
    World("60 facts, mostly right", 60, 5, 0, right=RETAINED),
    World("60 facts, all but always right", 60, 5, 0, right=(0.99,) * 4),
    World("60 facts, few in the first level", 60, 5, 0, 0.0, 0.0, RETAINED, (0.05, 0.1, 0.3, 0.55)),
    World("300 facts, 5 x 60 answers, skewed, shared 0.3", 300, 5, 60, 1.0, 0.3, RETAINED),
)  # fmt: skip
PAIRED_WORLDS = (WORLDS[0], WORLDS[1], WORLDS[2], WORLDS[3])
RUN_WORLD = World("200 facts, 2 x 30 answers", 200, 2, 30, 0.5, 0.2, RETAINED)
NOISE_DRAWS = 3
LOSSES = (0.10, 0.30)
"""Loss of the fine-tune in the worlds of noise: little and much."""

Row = tuple[str, str, dict[str, float]]
"""What is estimated, the world, and for each method a share of the draws."""


def _covers(low: float, high: float, truth: float) -> float:
    return float(low <= truth <= high)


def _covers_rate(rate: Rate) -> float:
    """Return whether a change of mastery holds 0; one without an interval does not."""
    bounded = rate.low is not None and rate.high is not None
    return _covers(rate.low, rate.high, 0.0) if bounded else 0.0


def _wald(value: float, variance: float, truth: float) -> float:
    return float(abs(value - truth) <= 1.96 * math.sqrt(variance))


def _methods(found: Estimate, independent: float, truth: float) -> dict[str, float]:
    """Return what each method makes of an estimate and of the variance of independent facts."""
    return {
        "ours": _covers(found.low, found.high, truth),
        "too low": float(found.high < truth),
        "too high": float(found.low > truth),
        "width": 100 * (found.high - found.low),
        "± 1.96 se, independent": _wald(found.value, independent, truth),
        "± 1.96 se, clustered": _wald(found.value, found.se**2, truth),
    }


def shares(world: World, rng: Random) -> dict[str, float]:
    """Return whether intervals of a mean over levels hold the truth."""
    _, design = world.draw(rng)
    right = (world.deviates(rng, design) < ndtri(world.probabilities(design))).astype(float)
    truth = float(np.mean([world.right[level] for level in design.levels]))
    found = share(design, right)
    p = design.means(right)
    plain = float((p * (1 - p) / design.sizes).sum()) / len(p) ** 2
    return _methods(found, plain, truth)


def _pair(
    world: World, rng: Random, lost: float, gained: float
) -> tuple[Design, np.ndarray, np.ndarray]:
    """Return answers before and after; so many of those right are lost, of those wrong gained."""
    _, design = world.draw(rng)
    before = world.deviates(rng, design) < ndtri(world.probabilities(design))
    change = world.deviates(rng, design) < ndtri(np.where(before, lost, gained))
    return design, before.astype(float), (before ^ change).astype(float)


def differences(world: World, rng: Random) -> dict[str, float]:
    """Return whether intervals of a paired difference of means over levels hold the truth."""
    design, before, after = _pair(world, rng, 0.2, 0.05)
    truth = float(
        np.mean([0.05 * (1 - p) - 0.2 * p for p in (world.right[one] for one in design.levels)])
    )
    found = difference(design, before, after)
    change = design.means(after - before)
    changed = design.means(np.abs(after - before))
    plain = float(((changed - change**2) / design.sizes).sum()) / len(change) ** 2
    return _methods(found, plain, truth)


def no_difference(world: World, rng: Random) -> dict[str, float]:
    """Return which methods see a change where clusters change one way or the other by chance."""
    _, design = world.draw(rng)
    before = (world.deviates(rng, design) < ndtri(world.probabilities(design))).astype(float)
    # Exchange before and after of whole clusters by chance: no change has a direction.
    change = world.deviates(rng, design) < ndtri(0.15)
    flip = rng.random(design.clusters)[design.cluster] < 0.5
    after = np.where(change, 1 - before, before)
    first, second = np.where(flip, after, before), np.where(flip, before, after)
    steps = second - first
    each = [steps * (design.level == place) for place in range(len(design.levels))]
    by_level = [sign_flip(one, design.cluster) for one in each]
    plain = [mcnemar(int((one < 0).sum()), int((one > 0).sum())) for one in each]
    found = difference(design, first, second)
    return {
        "interval": float(not found.low <= 0 <= found.high),
        "exact, clustered": float(sign_flip(steps, design.cluster) <= 0.05),
        "McNemar": float(mcnemar(int((steps < 0).sum()), int((steps > 0).sum())) <= 0.05),
        "any level, Holm": float(min(holm(by_level)) <= 0.05),
        "any level, McNemar": float(min(plain) <= 0.05),
    }


OF_RUN, OF_FACT = 0.05, 0.35
"""Variance of the runs, and of what facts bring to every run; of 1 in all."""


def _runs(world: World, rng: Random, design: Design, count: int, right: np.ndarray) -> np.ndarray:
    """Return answers of some runs, ``[runs, facts]``: runs differ, and facts are alike in all."""
    runs = math.sqrt(OF_RUN) * rng.standard_normal((count, 1))
    facts = world.deviates(rng, design, rest=world.shared + OF_FACT)
    return (facts + runs + _chance(world, rng, (count, design.n)) < ndtri(right)).astype(float)


FAR_APART = 0.35
"""The same where draws vary much: with 10 % on the mean, 19 of 20 forget 0.1 to 44 %."""


def _chance(
    world: World, rng: Random, shape: tuple[int, ...], more: float = 0.0, of_run: float = OF_RUN
) -> np.ndarray:
    rest = 1 - of_run - OF_FACT - world.shared + more
    return math.sqrt(rest) * rng.standard_normal(shape)


def runs(world: World, rng: Random, *, count: int) -> dict[str, float]:
    """Return whether intervals of the mean over several runs hold the truth."""
    _, design = world.draw(rng)
    right = _runs(world, rng, design, count, world.probabilities(design))
    truth = float(np.mean([world.right[level] for level in design.levels]))
    found = share_over_runs(design, right)
    return {
        "ours": _covers(found.low, found.high, truth),
        "width": 100 * (found.high - found.low),
        "± 1.96 se, runs as facts": _wald(found.value, found.within**2 / count, truth),
        "± 1.96 se, one run": _wald(found.runs[0], found.within**2, truth),
    }


def noise(
    world: World, rng: Random, *, lost: float, by_noise: float, of_run: float = OF_RUN
) -> dict[str, float]:
    """Return whether the intervals of a fine-tune against random changes hold the truth.

    The random changes vary; the fine-tune is one checkpoint, and stays that.
    """
    facts, design = world.draw(rng, first_level=1)
    alike = world.deviates(rng, design, rest=world.shared + OF_FACT)
    moved = math.sqrt(of_run) * rng.standard_normal((NOISE_DRAWS, 1))
    tuned = alike + _chance(world, rng, (design.n,), of_run, of_run) >= ndtri(lost)
    once = _chance(world, rng, (NOISE_DRAWS, design.n), of_run=of_run)
    perturbed = alike + moved + once >= ndtri(by_noise)
    names = [f"noise {number}" for number in range(NOISE_DRAWS)]
    frame = facts.with_columns(
        base=pl.lit(value=True),
        tuned=pl.Series(tuned),
        **dict(zip(names, map(pl.Series, perturbed), strict=True)),
    )
    found = forgetting(frame, "base", "tuned", names)
    assert found is not None
    times, excess = found.times, found.excess
    return {
        "times": _covers(times.low, times.high, lost / by_noise),
        "times too high": float(times.low > lost / by_noise),
        "excess": _covers(excess.low, excess.high, lost - by_noise),
        "excess too high": float(excess.low > lost - by_noise),
        "width of excess": 100 * (excess.high - excess.low),
        "times, facts alike": _covers(
            found.alike.times.low, found.alike.times.high, lost / by_noise
        ),
    }


def mastery(world: World, rng: Random, *, templates: int, draws: int) -> dict[str, float]:
    """Return what is seen of a fine-tune that does nothing."""
    facts, design = world.draw(rng)
    rate = rng.beta(0.35, 0.6, design.n)

    def measured() -> pl.DataFrame:
        hits = rng.random((design.n, templates, draws)) < rate[:, None, None]
        return pl.DataFrame({"fact_id": facts["fact_id"], "hits": hits.tolist()})

    found = mastery_change(facts, measured(), measured())
    top, whole = found.levels[-2], found.levels[-1]
    assert top.change is not None
    assert top.naive is not None
    assert whole.change is not None
    return {
        "corrected, level 4": _covers_rate(top.change),
        "corrected, all": _covers_rate(whole.change),
        "bias corrected, level 4": 100 * top.change.value,
        "bias naive, level 4": 100 * top.naive,
    }


Once = Callable[[World, Random], dict[str, float]]
"""Draws a world once and returns, for each method, 1 or 0, or a width or bias in points."""


def simulate(once: Once, world: World, draws: int, seed: int) -> dict[str, float]:
    """Return the mean of what a simulation returns over so many draws."""
    rng = np.random.default_rng(seed)
    found = [once(world, rng) for _ in range(draws)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def plan() -> list[tuple[str, list[tuple[str, World, Once]]]]:
    """Return every table: its title, and what each row is and does."""
    return [
        ("Mean over levels of a share: how often the 95 % interval holds the truth",
         [(one.name, one, shares) for one in WORLDS]),
        ("Paired difference of means over levels: how often the 95 % interval holds the truth",
         [(one.name, one, differences) for one in PAIRED_WORLDS]),
        ("No difference: how often one is seen at 5 %",
         [(one.name, one, no_difference) for one in PAIRED_WORLDS]),
        ("Several runs: how often the 95 % interval holds the truth",
         [(f"{k} runs, {RUN_WORLD.name}", RUN_WORLD, partial(runs, count=k)) for k in (2, 3, 5)]),
        (f"Against {NOISE_DRAWS} random changes: how often the 95 % interval holds the truth",
         [(f"{a:.0%} lost, noise {b:.0%}; {RUN_WORLD.name}", RUN_WORLD,
           partial(noise, lost=a, by_noise=b)) for a in LOSSES for b in (0.03, 0.10)]
         + [(f"10% lost, noise 10%, draws far apart; {RUN_WORLD.name}", RUN_WORLD,
             partial(noise, lost=0.10, by_noise=0.10, of_run=FAR_APART))]),
        ("Mastery after a fine-tune that does nothing",
         [(f"{t} x {k} completions, 200 facts", RUN_WORLD, partial(mastery, templates=t, draws=k))
          for t, k in ((1, 16), (21, 10))]),
    ]  # fmt: skip


def markdown(rows: list[tuple[str, dict[str, float]]]) -> str:
    """Return a table as Markdown: shares with three decimals, widths and biases in points."""
    names = list(rows[0][1])
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for name, values in rows:
        cells = (
            f"{value:.1f}" if column.startswith(("width", "bias")) else f"{value:.3f}"
            for column, value in values.items()
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print all tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4000, help="draws of each world")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    error = 100 * math.sqrt(0.95 * 0.05 / given.draws)
    print(f"{given.draws:,} draws of each world; a share of 0.95 has a Monte-Carlo error of "
          f"{error:.2f} points.\n")  # fmt: skip
    with ProcessPoolExecutor(given.processes) as pool:
        jobs = [
            (title, [(name, pool.submit(simulate, once, world, given.draws, given.seed))
                     for name, world, once in rows])
            for title, rows in plan()
        ]  # fmt: skip
        for title, rows in jobs:
            figures = [(name, job.result()) for name, job in rows]
            print(f"**{title}**\n\n{markdown(figures)}\n", flush=True)


if __name__ == "__main__":
    main()
