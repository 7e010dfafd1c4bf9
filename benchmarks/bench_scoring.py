"""Scoring: the answers of one variant, and their log-probabilities, from transformers."""

from __future__ import annotations

from benchmarks.asked import asking
from benchmarks.conftest import Measure
from benchmarks.references import ARITHMETIC
from sftbench.checkpoints.reference import resolve
from sftbench.engines.settings import EngineSettings, make_engine


def bench_scoring(measure: Measure) -> None:
    """Ask 48 facts of the lab with four shots, transformers engine."""
    engine = make_engine(resolve("lab"), EngineSettings("hf"))
    measure(ARITHMETIC, asking(engine))
    engine.close()
