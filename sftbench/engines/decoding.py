"""One batched decoding loop: prompts in, token ids out, finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    import torch

    from sftbench.engines.protocol import Finish

KEEP_SHARE = 0.85
"""The batch is made smaller once fewer than this share of its rows is still running: moving the
cache costs about as much as one step."""

WORTH_SHARING = 16
"""Fewest common first tokens that are read apart: a pass of its own costs about as much."""

Pick = Callable[["torch.Tensor", "torch.Tensor", int], "torch.Tensor"]
"""(logits ``[rows, vocabulary]``, row numbers ``[rows]``, step) to token ids ``[rows]``."""

Ended = Callable[[int, str], "Finish | None"]
"""(row number, its text so far) to why it has ended, or None to go on."""


@dataclass
class Row:
    """A completion in the making: its token ids (end-of-text left out) and why it ended."""

    ids: list[int] = field(default_factory=list)
    finish: Finish = "length"


@dataclass(frozen=True)
class Decoder:
    """A model with what is needed to turn its tokens into text.

    Attributes:
        model: a transformers causal language model.
        texts: turns many sequences of token ids into texts; special tokens left out.
        end_ids: ids that end a completion.
        pad_id: any id; padded positions are masked.
    """

    model: Any
    texts: Callable[[Sequence[Sequence[int]]], list[str]]
    end_ids: frozenset[int]
    pad_id: int

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        copies: Sequence[int],
        *,
        pick: Pick,
        ended: Ended,
        max_new_tokens: int,
    ) -> list[Row]:
        """Complete each prompt ``copies[i]`` times; the prompt is read once for all its copies.

        Returns:
            One row for each copy, in the order of the prompts.

        Raises:
            SftbenchError: the model's logits are not finite.
        """
        import torch

        source = torch.tensor([i for i, n in enumerate(copies) for _ in range(n)])
        rows = [Row() for _ in range(len(source))]
        with torch.inference_mode():
            state = _prefill(self, prompts, source)
            for step in range(max_new_tokens):
                tokens = pick(state.logits, state.live, step)
                running = self._note(rows, state.live.tolist(), tokens.tolist(), ended)
                if not any(running) or step + 1 == max_new_tokens:
                    break
                state.drop(running)
                state.forward(self.model, rows)
        return rows

    def _note(
        self, rows: list[Row], live: list[int], tokens: list[int], ended: Ended
    ) -> list[bool]:
        """Append the new tokens to the live rows; return which of them are still running."""
        running = [rows[number].finish == "length" for number in live]
        for place, (number, token) in enumerate(zip(live, tokens, strict=True)):
            if not running[place]:
                continue
            if token in self.end_ids:
                rows[number].finish = "stop"
                running[place] = False
            else:
                rows[number].ids.append(token)
        open_places = [place for place, runs in enumerate(running) if runs]
        texts = self.texts([rows[live[place]].ids for place in open_places])
        for place, text in zip(open_places, texts, strict=True):
            finish = ended(live[place], text)
            if finish is not None:
                rows[live[place]].finish = finish
                running[place] = False
        return running


@dataclass
class _State:
    """What the loop carries: `live` row numbers, cache, mask ``[rows, length]``, last logits."""

    live: torch.Tensor
    cache: Any
    mask: torch.Tensor
    logits: torch.Tensor
    device: torch.device

    def drop(self, running: Sequence[bool]) -> None:
        """Leave finished rows out once they are enough to be worth moving the cache."""
        import torch

        if sum(running) >= KEEP_SHARE * len(running):
            return
        keep = torch.tensor(running).nonzero().squeeze(1)
        self.live = self.live[keep]
        on_device = keep.to(self.device)
        self.cache.batch_select_indices(on_device)
        self.mask = self.mask[on_device]

    def forward(self, model: Any, rows: Sequence[Row]) -> None:
        """Read the last token of each live row."""
        import torch

        # A finished row that is still in the batch repeats a token; nobody reads what follows.
        last = [rows[number].ids[-1] if rows[number].ids else 0 for number in self.live.tolist()]
        one = torch.ones((len(last), 1), dtype=self.mask.dtype, device=self.device)
        self.mask = torch.cat([self.mask, one], dim=1)
        output = model(
            input_ids=torch.tensor(last, device=self.device).unsqueeze(1),
            attention_mask=self.mask,
            position_ids=self.mask.sum(dim=1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = finite(output.logits[:, -1, :])


def _prefill(decoder: Decoder, prompts: Sequence[Sequence[int]], source: torch.Tensor) -> _State:
    """Read the prompts once, then give each copy its own cache."""
    import torch

    read = read_all(decoder.model, prompts, decoder.pad_id, keep=1)
    mask, logits = read.mask, read.logits[:, -1, :]
    if len(source) != len(prompts):
        on_device = source.to(mask.device)
        read.cache.batch_select_indices(on_device)
        mask, logits = mask[on_device], logits[on_device]
    return _State(torch.arange(len(source)), read.cache, mask, finite(logits), mask.device)


class Read(NamedTuple):
    """What is left of reading a batch: cache, mask ``[rows, length]``, last `keep` logits."""

    cache: Any
    mask: torch.Tensor
    logits: torch.Tensor


def read_all(model: Any, sequences: Sequence[Sequence[int]], pad_id: int, *, keep: int) -> Read:
    """Read a batch of token ids; what all of them begin with is read once.

    Few-shot prompts share their examples, which are most of their tokens. The rest of each
    sequence is padded on the left, between the shared part and its own.

    Args:
        model: a transformers causal language model.
        sequences: token ids, none empty.
        pad_id: any id; padded positions are masked.
        keep: logits to return, from the end.

    Returns:
        `logits` is ``[rows, keep, vocabulary]`` in the model's dtype.
    """
    import torch
    from transformers import DynamicCache

    device = next(model.parameters()).device
    shared = shared_length(sequences, keep)
    ids, mask = pad_left([sequence[shared:] for sequence in sequences], pad_id)
    ids, mask = ids.to(device), mask.to(device)
    cache = DynamicCache(config=model.config)
    if shared:
        start = torch.tensor([sequences[0][:shared]], device=device)
        model(input_ids=start, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_select_indices(torch.zeros(len(ids), dtype=torch.long, device=device))
        mask = torch.cat([mask.new_ones((len(ids), shared)), mask], dim=1)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    return Read(cache, mask, output.logits)


def shared_length(sequences: Sequence[Sequence[int]], keep: int) -> int:
    """Return how many first tokens to read once: those that all begin with, if worth a pass.

    Each sequence keeps at least `keep` tokens of its own.
    """
    if len(sequences) < 2:
        return 0
    ordered = sorted(map(list, sequences))
    first, last = ordered[0], ordered[-1]  # what these two share, all share
    most = min(map(len, sequences)) - keep
    length = 0
    while length < most and first[length] == last[length]:
        length += 1
    return length if length >= WORTH_SHARING else 0


def by_prefix(sequences: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Return batches of at most `size` places; sequences that begin alike stand together.

    Sequences are alike if they share at least half of their tokens; those that are like no other
    are batched by length.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(sequences)), key=lambda place: list(sequences[place])):
        alike = shared_length([sequences[groups[-1][0]], sequences[place]], 0) if groups else 0
        if groups and 2 * alike >= len(sequences[place]):
            groups[-1].append(place)
        else:
            groups.append([place])
    alone = [group[0] for group in groups if len(group) == 1]
    alone.sort(key=lambda place: -len(sequences[place]))
    together = [group for group in groups if len(group) > 1]
    return [
        group[start : start + size]
        for group in [*together, alone]
        for start in range(0, len(group), size)
    ]


def pad_left(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, both ``[rows, longest]`` int64, padded on the left."""
    import torch

    longest = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        if sequence:
            ids[row, -len(sequence) :] = torch.tensor(sequence)
            mask[row, -len(sequence) :] = 1
    return ids, mask


def finite(logits: torch.Tensor) -> torch.Tensor:
    """Return the logits as they are.

    Raises:
        SftbenchError: one is no number, or infinite.
    """
    import torch

    if not bool(torch.isfinite(logits.sum())):
        raise SftbenchError(
            "the model's logits are not finite: its weights, or its dtype, do not work",
            remedy="Look for NaN in the checkpoint, or use --dtype float32.",
        )
    return logits
