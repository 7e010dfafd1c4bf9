"""Scoring and swap in a live vLLM engine, where vLLM is installed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from benchmarks.asked import asking
from benchmarks.conftest import Measure
from benchmarks.references import ARITHMETIC
from sftbench.checkpoints.lazy import Folder
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.rules import parse_rule
from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineSettings, make_engine, vllm_installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed"),
]
RULES = ("relative,5%", "relative,20%")
LONGEST = 512  # tokens of a text


@pytest.fixture(scope="module")
def engine(lab_pair: tuple[Path, Path]) -> Iterator[Engine]:
    """Return a live engine with the lab's model."""
    settings = EngineSettings("vllm", batch_size=256, options=(("max_model_len", LONGEST),))
    engine = make_engine(lab_pair[0], settings)
    yield engine
    engine.close()


def bench_scoring_vllm(measure: Measure, engine: Engine, lab_pair: tuple[Path, Path]) -> None:
    """Ask 48 facts of the lab with four shots, vLLM engine."""
    base = Folder(lab_pair[0])  # loaded anew each time: it forgets the prompts that it has read
    measure(ARITHMETIC, asking(engine), prepare=lambda: engine.load(base))


def bench_swap_vllm(measure: Measure, engine: Engine, lab_pair: tuple[Path, Path]) -> None:
    """Put a restored variant of the lab into a live vLLM engine, and prove that it took it."""
    pair = Pair.open(*lab_pair)
    planned = plan(pair, [parse_rule(rule) for rule in RULES])
    variants = cycle(RestoredWeights(pair, one) for one in planned)
    measure(ARITHMETIC, lambda: engine.load(next(variants)))
