"""Do the intervals cover, and do the tests err as seldom as they say? By a small simulation.

The worlds, and what is counted, are those of benchmarks/coverage.py; the seeds are fixed.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
SPEC = importlib.util.spec_from_file_location("benchmarks_coverage", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
worlds = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worlds)

DRAWS = 250
CLUSTERED = worlds.PAIRED_WORLDS[2]
ERROR = math.sqrt(0.95 * 0.05 / DRAWS)
"""Monte-Carlo standard error of a share of 0.95, or 0.05, over so many draws."""


def named(those):
    return [pytest.param(world, id=world.name.replace(" ", "-")) for world in those]


@pytest.mark.parametrize("world", named(worlds.WORLDS))
def test_intervals_of_shares_cover(world):
    found = worlds.simulate(worlds.shares, world, DRAWS, 1)
    assert found["ours"] >= 0.95 - 3 * ERROR
    assert found["ours"] >= found["± 1.96 se, independent"] - ERROR


@pytest.mark.parametrize("world", named(worlds.PAIRED_WORLDS))
def test_intervals_of_differences_cover(world):
    found = worlds.simulate(worlds.differences, world, DRAWS, 1)
    assert found["ours"] >= 0.95 - 3 * ERROR
    assert found["ours"] >= found["± 1.96 se, independent"] - ERROR


@pytest.mark.parametrize("world", named(worlds.PAIRED_WORLDS[1:3]))
def test_where_nothing_changed_a_change_is_seldom_seen(world):
    found = worlds.simulate(worlds.no_difference, world, DRAWS, 1)
    for method in ("interval", "exact, clustered", "any level, Holm"):
        assert found[method] <= 0.05 + 3 * ERROR, method
    if world is CLUSTERED:
        assert found["any level, McNemar"] > 0.05 + 3 * ERROR


@pytest.mark.parametrize(
    ("count", "least"), [(2, 0.85), (3, 0.95 - 4 * ERROR), (5, 0.95 - 4 * ERROR)]
)
def test_the_mean_over_runs_covers(count, least):
    found = worlds.simulate(partial(worlds.runs, count=count), worlds.RUN_WORLD, DRAWS, 1)
    assert found["ours"] >= least
    assert found["ours"] > found["± 1.96 se, runs as facts"] + 3 * ERROR
    assert found["ours"] > found["± 1.96 se, one run"] + 3 * ERROR


@pytest.mark.parametrize(("lost", "by_noise"), [(0.10, 0.10), (0.30, 0.03)])
def test_a_fine_tune_against_random_changes_is_covered(lost, by_noise):
    once = partial(worlds.noise, lost=lost, by_noise=by_noise)
    found = worlds.simulate(once, worlds.RUN_WORLD, DRAWS, 1)
    assert found["times"] >= 0.95 - 3 * ERROR
    assert found["excess"] >= 0.95 - 3 * ERROR
    assert found["times too high"] <= 0.05 + 3 * ERROR


@pytest.mark.parametrize(("templates", "draws", "times"), [(1, 16, 60), (21, 10, 12)])
def test_a_fine_tune_that_does_nothing_shows_no_loss_of_mastery(templates, draws, times):
    once = partial(worlds.mastery, templates=templates, draws=draws)
    found = worlds.simulate(once, worlds.RUN_WORLD, times, 1)
    error = math.sqrt(0.95 * 0.05 / times)
    assert found["corrected, level 4"] >= 0.95 - 3 * error
    assert found["corrected, all"] >= 0.95 - 3 * error
    assert abs(found["bias corrected, level 4"]) < 0.5
    assert found["bias naive, level 4"] < (-4 if templates == 1 else -0.2)
