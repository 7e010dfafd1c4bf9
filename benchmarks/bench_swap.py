"""Swap: giving a live engine the weights of the next variant."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

from benchmarks.conftest import Measure
from benchmarks.references import SUMS
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.rules import parse_rule
from sftbench.engines.settings import EngineSettings, make_engine

RULES = ("relative,5%", "relative,20%")


def bench_swap(measure: Measure, llama_pair: tuple[Path, Path]) -> None:
    """Put a restored variant into a live transformers engine, 20 million parameters."""
    pair = Pair.open(*llama_pair)
    planned = plan(pair, [parse_rule(rule) for rule in RULES])
    variants = cycle(RestoredWeights(pair, one) for one in planned)
    engine = make_engine(llama_pair[0], EngineSettings("hf"))
    measure(SUMS, lambda: engine.load(next(variants)))
    engine.close()
