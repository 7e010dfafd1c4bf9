"""Attention for few new tokens per row on a CPU: the same numbers as SDPA, several times faster.

torch's CPU kernel for scaled dot-product attention is made for long queries: with few queries per
row and a mask it repeats the keys for every head, where the grouped product below reads them once.
One core, AVX2, 9 heads in 3 groups, milliseconds of SDPA and of the product: 210 rows, one query,
32 positions 7.4 and 1.5 in fp32, 11 and 2.3 in bf16; 40 rows, 7 queries, 225 positions 22 and
5.5 in fp32, where SDPA's own kernel for half precision is the faster one for several queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "sftbench_decode"
FEW = 32
"""Queries of a row up to which the grouped product was the faster in fp32 (40 rows, 280 positions:
31 ms and 22 at 30)."""


def use_decode_attention(model: Any) -> None:
    """Let a transformers model that would use SDPA on a CPU use this module's attention."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation != "sdpa" or model.device.type != "cpu":
        return
    AttentionInterface.register(NAME, decode_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def decode_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from few queries per row; anything else is SDPA's.

    Args:
        module: the attention layer.
        query: ``[rows, heads, queries, width]``.
        key: ``[rows, groups, positions, width]``; `groups` divides `heads`.
        value: like `key`.
        attention_mask: bool ``[rows, 1, queries, positions]``, True where to look, or None.
        scaling: factor on the products; None is 1 / sqrt(width).
        kwargs: what transformers passes on.

    Returns:
        ``[rows, queries, heads, width]`` and None (no weights).
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, queries, width = query.shape
    plain = all(kwargs.get(name) is None for name in ("position_bias", "s_aux", "cache"))
    boolean = attention_mask is not None and attention_mask.dtype == torch.bool
    # Several queries without a mask are causal, and SDPA is the faster one in half precision.
    several = boolean and query.dtype == torch.float32
    few = queries <= FEW if several else queries == 1 and (boolean or attention_mask is None)
    if not few or not plain or module.training:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    groups = key.shape[1]
    # The heads of a group look at the same keys: they are so many more queries.
    # In float32 before the product: large ones would be rounded, or no number, in half precision.
    grouped = query.reshape(rows, groups, -1, width).float()
    products = (grouped @ key.transpose(2, 3).float()).view(rows, heads, queries, -1)
    scores = products.mul_(scaling or width**-0.5)
    if attention_mask is not None:
        # Not minus infinity: padding in front of a prompt sees nothing, and must stay a number.
        lowest = torch.finfo(scores.dtype).min
        scores += torch.zeros(attention_mask.shape).masked_fill_(~attention_mask, lowest)
    weights = scores.softmax(dim=-1).view(rows, groups, heads // groups * queries, -1)
    mixed = (weights @ value.float()).to(value.dtype).view(rows, heads, queries, -1)
    return mixed.transpose(1, 2).contiguous(), None
