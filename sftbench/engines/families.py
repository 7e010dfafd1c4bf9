"""Which family of tensors an engine did not take, told from what it computes.

After a swap that failed, the reference gets the old weights of one family after another. The
family without whose new weights it comes closest to the engine is the one that did not arrive. So
it does not matter in what form the engine keeps its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.regions import module_of

if TYPE_CHECKING:
    import torch

    from sftbench.checkpoints.lazy import Weights

HEAD, EMBEDDING, NORMS = "the output head", "the embedding", "the norms"
PROJECTIONS = {
    "q_proj": "attention q",
    "k_proj": "attention k",
    "v_proj": "attention v",
    "o_proj": "attention o",
    "gate_proj": "mlp gate",
    "up_proj": "mlp up",
    "down_proj": "mlp down",
}
"""The families that models of Llama's kind have in each block."""
GROUPS = {
    "attention q, k and v": ("q_proj", "k_proj", "v_proj"),
    "mlp gate and up": ("gate_proj", "up_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
"""Families that an engine may keep as one tensor, or lose together."""
EVERYTHING = "every tensor"

EXPLAINED = 0.7
"""The engine's distance to the reference (RMS) must fall to so much of it for a family to be named:
what `parity.FOLLOWED` refuses is at least 1.2 times the noise, which alone would be 0.64."""
OLD = 0.1
"""With so little of the distance left, it is the old weights that the engine has kept."""
AS_GOOD = 1.05
"""Of families that explain it this nearly alike, the first is named: the smallest."""


def families(names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return tensors by family, single ones first, then groups of them, at last all."""
    kinds: dict[str, set[str]] = {}
    for name in names:
        kinds.setdefault(_kind(name), set()).add(name)
    found = {_words(kind): frozenset(those) for kind, those in sorted(kinds.items())}
    for group, members in GROUPS.items():
        if all(member in kinds for member in members):
            found[f"the {group} projections"] = frozenset().union(*(kinds[one] for one in members))
    if {HEAD, EMBEDDING} <= kinds.keys():
        found[f"{EMBEDDING} and {HEAD}"] = frozenset(kinds[HEAD] | kinds[EMBEDDING])
    return {**found, EVERYTHING: frozenset().union(*kinds.values())}


def _kind(name: str) -> str:
    kind = module_of(name).removesuffix(".bias")
    if "norm" in kind or kind.startswith("ln_"):
        return NORMS
    if kind in ("lm_head", "embed_out"):
        return HEAD
    return EMBEDDING if "embed" in kind or kind == "wte" else kind


def _words(kind: str) -> str:
    if kind in (HEAD, EMBEDDING, NORMS):
        return kind
    return f"the {PROJECTIONS[kind]} projections" if kind in PROJECTIONS else f"all {kind}"


def not_taken(
    model: Any, old: Weights, logprobs: Callable[[], list[float]], shown: Sequence[float]
) -> str | None:
    """Return in words which family's weights are not the new ones, None if none stands out.

    Needs the memory of one more copy of the model for the time being.

    Args:
        model: the reference, a transformers model with the new weights; it has them again after.
        old: what the engine held before.
        logprobs: asks the reference.
        shown: the log-probabilities that the engine gives instead.
    """
    with _untied(model) as tied:
        state = model.state_dict()
        kept = {name: tensor for name, tensor in old.items() if name in state}
        if tied is not None:
            head, embedding = tied
            kept[head] = kept[embedding] = kept[embedding if embedding in kept else head]
        gaps = {}
        at_first = _distance(logprobs(), shown)
        for family, names in families(kept).items():
            with _put_back(state, {name: kept[name] for name in names}):
                gaps[family] = _distance(logprobs(), shown)
    least = min(gaps.values())
    if least > EXPLAINED * at_first:
        return None
    family = next(family for family, gap in gaps.items() if gap <= AS_GOOD * least)
    are = "the old ones" if least <= OLD * at_first else "not the new ones"
    return f"its weights of {family} seem to be {are}"


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    distance = math.dist(one, other)
    return distance if math.isfinite(distance) else math.inf


@contextmanager
def _untied(model: Any) -> Iterator[tuple[str, str] | None]:
    """Give a tied output head weights of its own for a while; yield both names, if it is tied.

    An engine may hold the head apart from the embedding, and lose only one of them.
    """
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or embedding is None or head.weight is not embedding.weight:
        yield None
        return
    names = {id(module): name for name, module in model.named_modules()}
    head.weight = torch.nn.Parameter(embedding.weight.detach().clone(), requires_grad=False)
    try:
        yield f"{names[id(head)]}.weight", f"{names[id(embedding)]}.weight"
    finally:
        head.weight = embedding.weight


@contextmanager
def _put_back(state: Mapping[str, torch.Tensor], old: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let a model have some of its old weights for a while."""
    import torch

    new = {name: state[name].clone() for name in old}
    with torch.no_grad():
        for name, tensor in old.items():
            state[name].copy_(tensor)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in new.items():
                state[name].copy_(tensor)
