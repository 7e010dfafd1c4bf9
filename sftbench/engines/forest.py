"""Packed trees of tokens: many continuations that share their beginnings, read in one pass each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sftbench.common.errors import SftbenchError
from sftbench.engines.decoding import finite

if TYPE_CHECKING:
    import torch

Node = tuple[int, int]
"""(parent, token): the parent is the number of an earlier node of the same tree, or -1."""

TOLERANCE = 0.3
"""How far a tree may be from the same tokens read alone, as a share of how far it would be without
a mask: rounding in bfloat16 is a few hundredths."""


class Forest:
    """One tree of tokens for each row; a node sees its ancestors and itself, nothing else.

    Nodes are numbered in the order in which they were added, from 0, and a number is the same
    place in every row: rows that add fewer nodes leave places empty. So a node costs one position
    of one row, whatever hangs below it, and any node can be continued at any time.

    Args:
        model: a transformers causal language model that takes a mask of its own.
    """

    def __init__(self, model: Any, rows: int) -> None:
        import torch
        from transformers import DynamicCache

        self._model = model
        self._device = next(model.parameters()).device
        # Without the configuration: layers with a window would forget nodes, not positions.
        self._cache = DynamicCache()
        self._sees = torch.zeros((rows, 0, 0), dtype=torch.bool)
        self._depth = torch.zeros((rows, 0), dtype=torch.long)

    @property
    def rows(self) -> int:
        """Number of trees."""
        return int(self._sees.shape[0])

    @property
    def size(self) -> int:
        """Number of places in every tree: the number of the next node."""
        return int(self._sees.shape[1])

    def extend(self, nodes: Sequence[Sequence[Node]], wanted: int = 0) -> torch.Tensor:
        """Add nodes to each tree and read them; a parent may stand before its child in the call.

        Shorter rows are filled up in front, so that node ``j`` of a row that adds ``n`` of the
        longest ``m`` is number ``size + m - n + j`` (see `numbers`).

        Args:
            nodes: for each row its new nodes.
            wanted: so many of the last nodes of each row have their logits returned.

        Returns:
            Logits ``[rows, wanted, vocabulary]`` of the model's dtype; ``wanted`` = 0: one that
            is of no use.
        """
        import torch

        start, longest = self.size, max(map(len, nodes))
        sees = torch.zeros((self.rows, longest, start + longest), dtype=torch.bool)
        depth = torch.zeros((self.rows, longest), dtype=torch.long)
        ids = torch.zeros((self.rows, longest), dtype=torch.long)
        whole = torch.nn.functional.pad(self._sees, (0, longest))
        for row, new in enumerate(nodes):
            empty = longest - len(new)
            # A place that is empty sees itself alone: a softmax over nothing is not a number.
            sees[row].diagonal(start).fill_(True)
            for place, (parent, token) in enumerate(new, start=empty):
                ids[row, place] = token
                if parent >= start:
                    sees[row, place] |= sees[row, parent - start]
                    depth[row, place] = depth[row, parent - start] + 1
                elif parent >= 0:
                    sees[row, place] |= whole[row, parent]
                    depth[row, place] = self._depth[row, parent] + 1
        output = self._model(
            input_ids=ids.to(self._device),
            attention_mask=sees.unsqueeze(1).to(self._device),
            position_ids=depth.to(self._device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=max(wanted, 1),
        )
        self._sees = torch.cat([whole, sees], dim=1)
        self._depth = torch.cat([self._depth, depth], dim=1)
        logits: torch.Tensor = finite(output.logits)
        return logits

    def numbers(self, counts: Sequence[int]) -> list[range]:
        """Return the numbers that so many nodes of each row will get, if they are added next."""
        end = self.size + max(counts)
        return [range(end - count, end) for count in counts]

    def spread(self, rows: int) -> None:
        """Make of the one tree that there is `rows` equal ones."""
        import torch

        self._cache.batch_select_indices(torch.zeros(rows, dtype=torch.long, device=self._device))
        self._sees = self._sees[:1].repeat(rows, 1, 1)
        self._depth = self._depth[:1].repeat(rows, 1)

    def pick(self, rows: Sequence[int]) -> Forest:
        """Return a forest of these trees alone; this one stays as it is."""
        import torch
        from transformers import DynamicCache

        chosen = torch.tensor(rows)
        picked = Forest(self._model, 0)
        picked._sees, picked._depth = self._sees[chosen], self._depth[chosen]
        on_device = chosen.to(self._device)
        picked._cache = DynamicCache(
            [(layer.keys[on_device], layer.values[on_device]) for layer in self._cache.layers]
        )
        return picked


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference in nats, over tokens that are not out of the question."""
    first, second = one.float().log_softmax(-1), other.float().log_softmax(-1)
    return float((first - second).abs()[first > -10].max())


def require_trees(model: Any, ids: Sequence[int]) -> None:
    """Raise unless the model reads a tree as it reads the same tokens one after the other.

    Args:
        model: a transformers causal language model.
        ids: at least three tokens of a text.

    Raises:
        SftbenchError: it does not take a mask or positions of its own, or does not heed them.
    """
    import torch

    try:
        with torch.inference_mode():
            text = torch.tensor([list(ids)], device=model.device)
            alone = finite(model(input_ids=text).logits[0, -1])
            forest = Forest(model, 1)
            # A second branch stands between a node and its child, where it must not be seen.
            trunk: list[Node] = [(place - 1, token) for place, token in enumerate(ids[:-1])]
            other: list[Node] = [(0, ids[-1]), (len(ids) - 1, ids[0])]
            logits = forest.extend([[*trunk, *other, (len(ids) - 2, ids[-1])]], wanted=1)[0, -1]
            plain = [*ids[:-1], ids[-1], ids[0], ids[-1]]
            blind = model(input_ids=torch.tensor([plain], device=model.device)).logits[0, -1]
        same = bool(_apart(alone, logits) <= TOLERANCE * _apart(alone, blind))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        same = False
    if not same:
        raise SftbenchError(
            f"the model ({type(model).__name__}) cannot read several continuations in one pass: "
            "its attention takes no mask from outside",
            remedy="Use --estimator sampled, which needs nothing but sampling.",
        )
