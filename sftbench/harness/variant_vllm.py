"""The lm-eval model `sftbench-vllm`: `vllm` on a variant of two models that is never written."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import lm_eval.models  # noqa: F401  # first: see harness/model.py
from lm_eval.api.registry import register_model

from sftbench.engines.settings import BATCH_SIZES
from sftbench.engines.vllm import VllmEngine
from sftbench.engines.vllm_start import OURS, import_vllm
from sftbench.harness.variant_args import in_words_of_lm_eval
from sftbench.harness.variant_lm import VariantLM, recorded, take
from sftbench.harness.vllm import handed_over, repair_version, vllm_arguments

import_vllm()
repair_version()

from lm_eval.models.vllm_causallms import VLLM  # noqa: E402  # it looks for vLLM's version

NAME = "sftbench-vllm"
OPTIONS = (
    "max_gen_toks", "add_bos_token", "prefix_token_id", "truncation_side", "think_end_token",
    "enable_thinking", "chat_template_args",
)  # fmt: skip
"""Arguments of lm-eval's `vllm` about how a model is asked; all others are vLLM's."""


@register_model(NAME)
class VariantVLLM(VariantLM, VLLM):  # type: ignore[misc]  # lm-eval is not typed
    """lm-eval's `vllm` around our vLLM engine, with a variant's weights in it.

    Before the first question the engine has to show that it computes these weights
    (`engines/parity.py`).

    Args:
        dtype: float32 unless said otherwise, as in `sftbench compare`.
        batch_size: as for lm-eval's `vllm`: prompts that it sends at a time, or "auto" for all.
        max_batch_size: completions that run at once where `batch_size` is "auto".
        max_num_seqs: the same, in vLLM's words.
        max_length: vLLM's max_model_len, in lm-eval's words.
        device: lm-eval passes one; vLLM chooses its own.
        args: which variant (`variant_args.NAMES`), what `OPTIONS` names, and the fields of
            vLLM's EngineArgs, such as max_model_len and tensor_parallel_size.

    Raises:
        SftbenchError: an argument is not known or cannot be read, a checkpoint, the pair or the
            rule cannot be used, or vLLM cannot run the model or does not compute the variant.
    """

    def __init__(
        self,
        dtype: str = "float32",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        max_num_seqs: int | None = None,
        max_length: int | None = None,
        device: str | None = None,
        **args: Any,
    ) -> None:
        if max_length is not None:
            args.setdefault("max_model_len", max_length)
        found, own = take(args, (*OPTIONS, *engine_options()), model=NAME, dtype=dtype)
        options = {name: own.pop(name) for name in OPTIONS if name in own}
        at_once = max_num_seqs or max_batch_size
        if at_once is None:
            at_once = BATCH_SIZES["vllm"] if "auto" in str(batch_size) else int(batch_size)
        with in_words_of_lm_eval():
            engine = VllmEngine(found.path, dtype=dtype, batch_size=int(at_once), options=own)
            if found.weights is not None:
                engine.load(found.weights)
        parity = {} if engine.parity is None else {"parity": asdict(engine.parity)}
        self.sftbench = {**recorded(found, engine, batch_size), **parity}
        with handed_over(engine):
            super().__init__(**vllm_arguments(engine), batch_size=batch_size, **options)


def engine_options() -> tuple[str, ...]:
    """Return the fields of vLLM's EngineArgs that are the user's to set."""
    from vllm.engine.arg_utils import EngineArgs

    return tuple(field.name for field in fields(EngineArgs) if field.name not in OURS)
