"""Regions: which tensors of a model a rule is about, by their checkpoint names."""

from __future__ import annotations

import re

from sftbench.checkpoints.vocabulary import in_blocks

LAYER = re.compile(r"(?:^|\.)layers\.([0-9]+)\.")
_ATTENTION = re.compile(r"attn|attention")
_MLP = re.compile(r"mlp|feed_forward|ffn|experts|moe|\.fc[12]\.")
_EMBEDDINGS = re.compile(r"embed|lm_head|\bwte\b|\bwpe\b")


def in_region(name: str, region: str) -> bool:
    """Return whether a tensor belongs to a region (see `rules.REGIONS`).

    The paper's are the blocks without their norms; attention, mlp and layer ranges are parts of
    that.
    """
    if region.startswith("match="):
        return re.search(region.removeprefix("match="), name) is not None
    if region.startswith("layers="):
        return is_ranked(name) and _is_in_layers(name, region)
    if region == "all":
        return True
    if region == "norms":
        return "norm" in name
    if region == "embeddings":
        return not in_blocks(name) and _EMBEDDINGS.search(name) is not None
    part = {"attention": _ATTENTION, "mlp": _MLP}.get(region)
    return is_ranked(name) and (part is None or part.search(name) is not None)


def is_ranked(name: str) -> bool:
    """Return whether the paper ranks a tensor: the blocks, without their norms."""
    return in_blocks(name) and "norm" not in name


def layer_of(name: str) -> int | None:
    """Return the number of a tensor's block; None outside the blocks."""
    match = LAYER.search(name)
    return None if match is None else int(match[1])


def module_of(name: str) -> str:
    """Return what a tensor is in its block, such as "q_proj" or "down_proj"."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    kind = parts[-2] if len(parts) > 1 and parts[-1] in ("weight", "bias") else parts[-1]
    return f"{kind}.bias" if parts[-1] == "bias" else kind


def _is_in_layers(name: str, region: str) -> bool:
    layer = layer_of(name)
    if layer is None:
        return False
    ranges = (part.partition("-") for part in region.removeprefix("layers=").split("+"))
    return any(int(first) <= layer <= int(last or first) for first, _, last in ranges)
