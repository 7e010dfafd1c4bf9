"""The lm-eval model `sftbench`: lm-eval's `hf`, with our names of models and our precision."""

from __future__ import annotations

from typing import Any

import lm_eval.models  # noqa: F401  # first: lm-eval skips its own models if the registry has ours
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from sftbench.checkpoints.folder import open_checkpoint, read_tensors, require_finite
from sftbench.checkpoints.reference import resolve


@register_model("sftbench")
class SftbenchLM(HFLM):  # type: ignore[misc]  # lm-eval is not typed
    """`hf` for local checkpoints, so that a run is comparable with `sftbench compare`.

    Args:
        pretrained: "lab", "smollm2" or a local checkpoint folder.
        dtype: float32 unless said otherwise, as in `sftbench compare`.
        device: such as "cpu"; None takes a GPU when there is one (`hf` defaults to one).
        kwargs: as for lm-eval's `hf`.

    Raises:
        SftbenchError: there is no such checkpoint, a file in it is missing or broken, it needs
            code of its own, its weights are pickled, or one of them is NaN or infinite.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        path = open_checkpoint(resolve(pretrained)).path
        require_finite(read_tensors(path), path)
        super().__init__(pretrained=str(path), dtype=dtype, device=device or "", **kwargs)
