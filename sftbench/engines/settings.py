"""Which engine answers, and what of its settings can change an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sftbench.engines.protocol import Engine


@dataclass(frozen=True)
class EngineSettings:
    """What decides an engine's numbers, so that it is part of every key.

    Attributes:
        name: a name that `make_engine` knows.
        dtype: of weights and arithmetic: "float32", "bfloat16" or "float16".
        batch_size: prompts in one batch for greedy answers and log-probabilities.
    """

    name: str = "hf"
    dtype: str = "float32"
    batch_size: int = 16


EngineFactory = Callable[[Path, EngineSettings], Engine]
"""Makes the engine, given a checkpoint folder; not called at all if nothing is asked."""


def make_engine(path: Path, settings: EngineSettings) -> Engine:
    """Return the engine that the settings name, with the model of a folder loaded."""
    from sftbench.engines.transformers import TransformersEngine

    return TransformersEngine(path, dtype=settings.dtype, batch_size=settings.batch_size)
