"""What each vLLM worker can do for us: take other weights while it runs.

vLLM adds this class to its own worker and calls its methods by name; only plain arguments travel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

EXTENSION = "sftbench.engines.vllm_worker.WeightSwap"
"""For vLLM's ``worker_extension_cls``."""
SWAP = "sftbench_swap_weights"
"""The name that `LLM.collective_rpc` calls it by."""


class WeightSwap:
    """Added to vLLM's worker, which has `model_runner`."""

    model_runner: Any

    def sftbench_swap_weights(self, file: str) -> None:
        """Copy the tensors of a safetensors file into the live model, by checkpoint name.

        vLLM's loader shards and fuses them as it did at the start. It runs one read at a time,
        so that a worker never holds the whole file.
        """
        self.model_runner.reload_weights(weights_iterator=_tensors(file))
        repack_heads(self.model_runner.get_model())


def _tensors(file: str) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118  # no mapping, it only has this method
            yield name, opened.get_tensor(name)


def repack_heads(model: Any) -> None:
    """Pack the output head again where a CPU keeps a packed copy of it.

    vLLM's loader packs each layer that it has loaded. A head that is tied to the embedding is
    never loaded, so that its copy would keep the old weights.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        UnquantizedEmbeddingMethod,
    )
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(module, ParallelLMHead) and isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(module)
