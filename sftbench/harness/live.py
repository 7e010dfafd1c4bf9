"""A live engine as an lm-eval model, with whatever weights it holds now."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from sftbench.common.errors import SftbenchError
from sftbench.common.logs import errors_only
from sftbench.engines.protocol import Engine
from sftbench.engines.transformers import TransformersEngine
from sftbench.engines.vllm import VllmEngine


def lm_of(engine: Engine) -> Any:
    """Return an `lm_eval.api.model.LM` that asks the engine; no weights are loaded or copied.

    It follows the engine: after `engine.load` it answers with the new weights.

    Raises:
        SftbenchError: an engine that lm-eval has no model for.
    """
    if isinstance(engine, TransformersEngine):
        import lm_eval.models  # noqa: F401  # first: see harness/model.py
        from lm_eval.models.huggingface import HFLM

        with model_in_memory():
            return HFLM(**hf_arguments(engine), batch_size=engine.batch_size)
    if isinstance(engine, VllmEngine):
        from sftbench.harness.vllm import live_vllm

        return live_vllm(engine)
    raise SftbenchError(
        f"lm-eval has no model for the engine {engine.describe()['engine']}",
        remedy="Use --engine hf or --engine vllm.",
    )


def hf_arguments(engine: TransformersEngine) -> dict[str, Any]:
    """Return the arguments by which lm-eval's `hf` asks this engine's model."""
    return {"pretrained": engine.model, "tokenizer": engine.tokenizer}


def model_in_memory() -> AbstractContextManager[None]:
    """Leave out lm-eval's warnings that its `hf` loads no model itself: that is meant."""
    return errors_only("lm_eval.models.huggingface")
