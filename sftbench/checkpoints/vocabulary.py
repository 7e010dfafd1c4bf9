"""A vocabulary that grew or was padded: which tensors may differ in their rows, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sftbench.checkpoints.weights import tensor_headers
from sftbench.common.errors import SftbenchError

Shapes = Mapping[str, Sequence[int]]

NAMES_SHOWN = 3
REMEDY = "Name the base that this model was tuned from."


@dataclass(frozen=True)
class VocabularyChange:
    """How many tokens the embedding has room for, before and after the fine-tune.

    Attributes:
        before: rows of the base's embedding.
        after: rows of the tuned model's.
        names: the tensors whose rows differ: the embedding, the output head where it has its own.
    """

    before: int
    after: int
    names: tuple[str, ...]

    @property
    def common(self) -> int:
        """The rows that both have: the update is taken over these."""
        return min(self.before, self.after)

    @property
    def words(self) -> str:
        """What a reader must know of it, as one sentence."""
        return (
            f"The vocabulary was resized from {self.before:,} to {self.after:,} rows "
            f"({', '.join(self.names)}): the update is measured over the {self.common:,} rows "
            "that both have, and every restored variant keeps the tuned model's."
        )


def in_blocks(name: str) -> bool:
    """Return whether a tensor belongs to a transformer block, by its checkpoint name."""
    return "layers" in name


def vocabulary_change(base: Path, tuned: Path) -> VocabularyChange | None:
    """Return how the vocabulary of two checkpoint folders differs in size; None if it does not.

    Reads the headers of the weight files alone.

    Raises:
        SftbenchError: a weight file cannot be read, or the tensors differ in another way.
    """
    mine, theirs = (
        {name: header.shape for name, header in tensor_headers(path).items()}
        for path in (base, tuned)
    )
    return resized_rows(mine, theirs, where=tuned)


def resized_rows(
    base: Shapes, tuned: Shapes, *, where: str | Path = "the tuned model"
) -> VocabularyChange | None:
    """Return how the rows outside the blocks differ between tensors of the same name.

    Args:
        base: shapes by tensor name.
        tuned: shapes by tensor name.
        where: what an error calls the tuned model.

    Raises:
        SftbenchError: a tensor of a block has another shape; or one outside differs in more than
            its first dimension, or in other numbers than the rest: that is another model.
    """
    names = sorted(name for name in base.keys() & tuned.keys() if _differ(base[name], tuned[name]))
    if not names:
        return None
    wrong = [name for name in names if not _resized(name, base[name], tuned[name])]
    sizes = {(base[name][0], tuned[name][0]) for name in names if name not in wrong}
    if wrong or len(sizes) != 1:
        pairs = [
            f"{name} ({list(base[name])} in base, {list(tuned[name])} in tuned)"
            for name in wrong or names
        ]
        raise SftbenchError(
            f"base and tuned differ in shape: {some(pairs)}", where=where, remedy=REMEDY
        )
    ((before, after),) = sizes
    return VocabularyChange(before, after, tuple(names))


def _differ(one: Sequence[int], two: Sequence[int]) -> bool:
    return tuple(one) != tuple(two)


def _resized(name: str, before: Sequence[int], after: Sequence[int]) -> bool:
    """Return whether this may be a matrix, or the bias of one, with a row for each token."""
    per_token = len(before) == 2 or name.endswith(".bias")
    same_rest = len(before) == len(after) and tuple(before[1:]) == tuple(after[1:])
    return not in_blocks(name) and per_token and same_rest


def some(names: Sequence[str]) -> str:
    """Return the first few of many names, and how many more there are."""
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
