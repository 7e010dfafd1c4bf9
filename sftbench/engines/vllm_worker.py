"""What each vLLM worker can do for us: take other weights while it runs.

vLLM adds this class to its own worker and calls its methods by name; between processes only plain
arguments travel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
        model = self.model_runner.get_model()
        before = packed(model)
        self.model_runner.reload_weights(weights_iterator=items)
        repack_heads(model, before)


def packed(model: Any) -> dict[str, Any]:
    """Return, by name of the module, what computes with the packed copy that a CPU keeps of it."""
    return {
        name: module.cpu_linear
        for name, module in model.named_modules()
        if hasattr(module, "cpu_linear")
    }


def repack_heads(model: Any, before: Mapping[str, Any]) -> None:
    """Pack the output head again where a CPU keeps a packed copy of it.

    vLLM's loader packs each layer that it has loaded. A head that is tied to the embedding is
    never loaded, so that its copy would keep the old weights. The embedding was loaded, though,
    and packed: its copy serves both, which spares the largest tensor's second packing.

    Args:
        model: vLLM's, with the new weights.
        before: what `packed` gave when it had the old ones.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        UnquantizedEmbeddingMethod,
        VocabParallelEmbedding,
    )
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    tables: dict[str, Any] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, VocabParallelEmbedding)
        and isinstance(module.quant_method, UnquantizedEmbeddingMethod)
    }
    fresh = {
        tables[name].weight.data_ptr(): made
        for name, made in packed(model).items()
        if name in tables and made is not before.get(name)
    }
    heads: list[Any] = [one for one in tables.values() if isinstance(one, ParallelLMHead)]
    for head in heads:
        if head.weight.data_ptr() in fresh:
            head.cpu_linear = fresh[head.weight.data_ptr()]
        else:
            head.quant_method.process_weights_after_loading(head)
