"""What each vLLM worker can do for us: take other weights while it runs.

vLLM adds this class to its own worker and calls its methods by name; between processes only plain
arguments travel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.lazy import weights_of

if TYPE_CHECKING:
    import torch

EXTENSION = "sftbench.engines.vllm_worker.WeightSwap"
"""For vLLM's ``worker_extension_cls``."""
SWAP = "sftbench_swap_weights"
"""The name that `LLM.collective_rpc` calls it by."""


class WeightSwap:
    """Added to vLLM's worker, which has `model_runner`."""

    model_runner: Any

    def sftbench_swap_weights(self, weights: str | Iterator[tuple[str, torch.Tensor]]) -> None:
        """Copy weights into the live model.

        They go by their checkpoint names through vLLM's loader, which shards and fuses them as it
        did at the start. It holds one layer at a time, so that a worker never holds all of them.

        Args:
            weights: the JSON of an origin, of which they are made here; or the weights, if the
                caller lives in this process.
        """
        items = weights_of(json.loads(weights)).items() if isinstance(weights, str) else weights
        self.model_runner.reload_weights(weights_iterator=items)
        repack_heads(self.model_runner.get_model())


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
