"""Restore: working out what is set back, and writing a restored checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.conftest import Measure
from benchmarks.references import SUMS
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.restored_folders import plan_folders, write_restored
from sftbench.checkpoints.rules import parse_rule

PERCENTS = (1, 3, 5, 10, 20, 40, 60)


def bench_plan(measure: Measure, llama_pair: tuple[Path, Path]) -> None:
    """Plan seven restores by `relative`, 20 million parameters."""
    pair = Pair.open(*llama_pair)
    rules = [parse_rule(f"relative,{percent}%") for percent in PERCENTS]
    measure(SUMS, lambda: plan(pair, rules))


def bench_apply(measure: Measure, llama_pair: tuple[Path, Path], scratch: Path) -> None:
    """Write a restored checkpoint that is planned, 20 million parameters."""
    planning = plan_folders(*llama_pair, [parse_rule("relative,5%")])
    out = scratch / "restored"
    measure(
        SUMS,
        lambda: write_restored(planning, [out]),
        prepare=lambda: shutil.rmtree(out, ignore_errors=True),
    )
