"""The update from base to tuned: whether the two fit together, and sums over parts of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

from sftbench.checkpoints.source import shapes_of
from sftbench.checkpoints.vocabulary import REMEDY, in_blocks, resized_rows, some
from sftbench.common.errors import SftbenchError

Tensors = Mapping[str, torch.Tensor]

PIECE = 1 << 20
"""Scalars that are taken at a time, so that no copy of a large tensor is made."""
HEAD = "lm_head.weight"
EMBEDDING = "embed_tokens.weight"
"""How the name of the embedding ends ("model.embed_tokens.weight" in most models)."""


def shared_names(
    base: Tensors,
    tuned: Tensors,
    *,
    where: tuple[str | Path, str | Path] = ("the base", "the tuned model"),
) -> list[str]:
    """Return the names of the tensors that both models have, sorted.

    The output head may be stored on one side only: the other ties it to its embedding. Tensors
    outside the blocks may differ in their number of rows: the vocabulary was resized.

    Raises:
        SftbenchError: names or shapes differ otherwise.
    """
    only_base, only_tuned = sorted(base.keys() - tuned.keys()), sorted(tuned.keys() - base.keys())
    if not _is_head_of(tuned, only_base, only_tuned) and not _is_head_of(
        base, only_tuned, only_base
    ):
        _require_no_others(only_base, only_tuned, where)
    resized_rows(shapes_of(base), shapes_of(tuned), where=where[1])
    return sorted(base.keys() & tuned.keys())


def pair_notes(base: Tensors, tuned: Tensors) -> list[str]:
    """Return what a reader must know of two models that are not built alike, a sentence each.

    Raises:
        SftbenchError: as `shared_names`, for shapes.
    """
    notes = []
    vocabulary = resized_rows(shapes_of(base), shapes_of(tuned))
    if vocabulary is not None:
        notes.append(vocabulary.words)
    if is_tied(base) != is_tied(tuned):
        ties, own = ("base", "tuned model") if is_tied(base) else ("tuned model", "base")
        notes.append(
            f"The {ties} ties its output head to the embedding, the {own} has a head of its own; "
            "restored variants are built like the tuned model."
        )
    return notes


def is_tied(tensors: Tensors) -> bool:
    """Return whether the output head is the embedding: not stored, or stored and equal."""
    if HEAD not in tensors:
        return True
    embedding = _embedding(tensors)
    return embedding is not None and torch.equal(tensors[HEAD], embedding)


def head_of(tensors: Tensors) -> torch.Tensor | None:
    """Return the output head: its own tensor, else the embedding; None where neither is known."""
    return tensors[HEAD] if HEAD in tensors else _embedding(tensors)


def tensor_pairs(
    base: Tensors,
    tuned: Tensors,
    *,
    where: tuple[str | Path, str | Path] = ("the base", "the tuned model"),
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield name, base's and tuned model's tensor, of all that the models compute with.

    An output head that both models tie is the embedding and not yielded again; one that a single
    model ties is held against the other's. Of a resized vocabulary, the rows that both have count.

    Raises:
        SftbenchError: as `shared_names`.
    """
    for name in shared_names(base, tuned, where=where):
        if name != HEAD:
            yield name, *_common_rows(base[name], tuned[name])
    mine, theirs = head_of(base), head_of(tuned)
    if not (is_tied(base) and is_tied(tuned)) and mine is not None and theirs is not None:
        yield HEAD, *_common_rows(mine, theirs)


def update_norm(base: Tensors, tuned: Tensors) -> float:
    """Return the L2 norm of s - p over all tensors of the model, as `tensor_pairs` yields them.

    Raises:
        SftbenchError: as `shared_names`.
    """
    return math.sqrt(sum(distance(*pair) ** 2 for _, *pair in tensor_pairs(base, tuned)))


def parts(tensor: torch.Tensor, most: int = PIECE) -> Iterator[torch.Tensor]:
    """Yield the scalars of a tensor in one row, so many at a time."""
    flat = tensor.reshape(-1)
    for start in range(0, len(flat), most):
        yield flat[start : start + most]


def distance(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return the L2 norm of s - p of two tensors, s - p in fp32, the sum in fp64."""
    total = 0.0
    for p, s in zip(parts(before), parts(after), strict=True):
        update = (s.float() - p.float()).double()
        total += float(update.dot(update))
    return math.sqrt(total)


def _common_rows(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if before.shape == after.shape:
        return before, after
    rows = min(len(before), len(after))
    return before[:rows], after[:rows]


def embedding_name(tensors: Iterable[str]) -> str | None:
    """Return the name of the input embedding; None where it is not known."""
    names = [name for name in tensors if name.endswith(EMBEDDING) and not in_blocks(name)]
    return names[0] if len(names) == 1 else None


def _embedding(tensors: Tensors) -> torch.Tensor | None:
    name = embedding_name(tensors)
    return None if name is None else tensors[name]


def _is_head_of(ties: Tensors, missing: list[str], others: list[str]) -> bool:
    """Return whether a model lacks nothing but a head that it can take from its embedding."""
    return missing == [HEAD] and not others and _embedding(ties) is not None


def _require_no_others(
    only_base: list[str], only_tuned: list[str], where: tuple[str | Path, str | Path]
) -> None:
    if not only_base and not only_tuned:
        return
    parts = [
        f"only {place} has {some(names)}"
        for place, names in zip(where, (only_base, only_tuned), strict=True)
        if names
    ]
    raise SftbenchError(
        f"base and tuned hold different tensors: {'; '.join(parts)}", where=where[1], remedy=REMEDY
    )
