"""The lm-eval model `sftbench-hf`: `hf` on a variant of two models that is never written."""

from __future__ import annotations

from typing import Any

import lm_eval.models  # noqa: F401  # first: see harness/model.py
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from sftbench.common.errors import SftbenchError
from sftbench.engines.transformers import TransformersEngine
from sftbench.harness.live import hf_arguments, model_in_memory
from sftbench.harness.variant_args import WHERE, in_words_of_lm_eval
from sftbench.harness.variant_lm import VariantLM, recorded, take

NAME = "sftbench-hf"
OPTIONS = (
    "max_batch_size", "max_length", "truncation", "add_bos_token", "prefix_token_id",
    "logits_cache", "softmax_dtype", "mixed_precision_dtype", "think_end_token",
    "enable_thinking", "chat_template_args",
)  # fmt: skip
"""Arguments of lm-eval's `hf` about how a model is asked."""


@register_model(NAME)
class VariantHF(VariantLM, HFLM):  # type: ignore[misc]  # lm-eval is not typed
    """lm-eval's `hf` around the transformers engine, with a variant's weights in it.

    Args:
        dtype: float32 unless said otherwise, as in `sftbench compare`.
        batch_size: as for lm-eval's `hf`: a number, "auto" or "auto:N".
        device: such as "cpu"; None takes a GPU when there is one.
        args: which variant (`variant_args.NAMES`), and what `OPTIONS` names.

    Raises:
        SftbenchError: an argument is not known or cannot be read, or a checkpoint, the pair or
            the rule cannot be used.
    """

    def __init__(
        self,
        dtype: str = "float32",
        batch_size: int | str = 1,
        device: str | None = None,
        **args: Any,
    ) -> None:
        place = device_of(device)
        found, options = take(args, OPTIONS, model=NAME, dtype=dtype)
        with in_words_of_lm_eval():
            engine = TransformersEngine(found.path, dtype=dtype, device=place)
            if found.weights is not None:
                engine.load(found.weights)
        self.sftbench = recorded(found, engine, batch_size)
        with model_in_memory():
            super().__init__(**hf_arguments(engine), batch_size=batch_size, **options)


def device_of(device: str | None) -> str | None:
    """Return the device, or None to choose one: lm-eval asks for cuda:0 where there is none.

    Raises:
        SftbenchError: there is no such kind of device.
    """
    import torch

    try:
        kind = None if device is None else torch.device(device).type
    except RuntimeError:
        raise SftbenchError(
            f"there is no device {device!r}", where=WHERE, remedy="Use cpu, cuda, cuda:1 or mps."
        ) from None
    return None if kind == "cuda" and not torch.cuda.is_available() else device
