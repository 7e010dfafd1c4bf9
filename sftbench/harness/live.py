"""A live engine as an lm-eval model, with whatever weights it holds now."""

from __future__ import annotations

from typing import Any

from sftbench.common.errors import SftbenchError
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

        return HFLM(
            pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=engine.batch_size
        )
    if isinstance(engine, VllmEngine):
        from sftbench.harness.vllm import live_vllm

        return live_vllm(
            engine.llm,
            pretrained=str(engine.path),
            dtype=engine.dtype,
            batch_size=engine.batch_size,
        )
    raise SftbenchError(
        f"lm-eval has no model for the engine {engine.describe()['engine']}",
        remedy="Use --engine hf or --engine vllm.",
    )
