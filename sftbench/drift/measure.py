"""The pass over two live models: the same batch in both, logits reduced before the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sftbench.common.errors import SftbenchError
from sftbench.drift.table import Row, has_paper_kl, row_of
from sftbench.drift.texts import FORMS
from sftbench.engines.decoding import by_prefix
from sftbench.engines.divergence import divergence, top_divergence
from sftbench.engines.memory import Room

if TYPE_CHECKING:
    import torch

    from sftbench.drift.texts import Text
    from sftbench.engines.protocol import Advance, WholeReader

BYTES = 128 << 20
"""Logits of one model that are held at a time; a text alone may take more."""
LOGIT = 4
"""Bytes of a logit at most."""


def drift_rows(
    base: WholeReader,
    other: WholeReader,
    texts: Sequence[Text],
    *,
    vocabulary: int,
    alone: bool = False,
    advance: Advance | None = None,
) -> Iterator[Row]:
    """Yield a row of `table.DRIFT` (without the variant) for each text and position.

    Both models read the same batches, so that only their weights differ. Memory does not grow
    with the texts: a batch holds so many of them that the logits of both models stay below twice
    `BYTES`, whatever the size of the vocabulary.

    Args:
        base: holds the base.
        other: holds the variant.
        texts: what is read, see `sftbench.drift.texts`.
        vocabulary: tokens of the larger vocabulary.
        alone: the second model reads each text by itself, in no batch: with the same weights in
            both, the noise floor of the arithmetic.
        advance: told of the texts that are done.

    Raises:
        SftbenchError: a divergence is not finite.
    """
    room = Room(len(texts) or 1)

    def work(batch: list[Text]) -> list[Row]:
        return _batch_rows(base, other, batch, alone=alone)

    done = room.run(_batches(texts, vocabulary, base.batch_size), work, size=len, halves=_halves)
    for batch, rows in done:
        yield from rows
        if advance is not None:
            advance(len(batch))


def _batches(texts: Sequence[Text], vocabulary: int, most: int) -> Iterator[list[Text]]:
    """Yield texts of one form that begin alike, so many that their logits keep to `BYTES`.

    And no more than `most`, the prompts that the engine takes at once.
    """
    for form in FORMS:
        own = [text for text in texts if text.form == form]
        keep = max((len(text.kinds) for text in own), default=1)
        rows = max(1, min(most, BYTES // (keep * vocabulary * LOGIT)))
        for chunk in by_prefix([text.prompt for text in own], rows):
            yield [own[place] for place in chunk]


def _halves(batch: list[Text]) -> tuple[list[Text], list[Text]] | None:
    middle = len(batch) // 2
    return (batch[:middle], batch[middle:]) if middle else None


def _batch_rows(
    base: WholeReader, other: WholeReader, batch: Sequence[Text], *, alone: bool
) -> list[Row]:
    mine = _logits(base, batch)
    theirs = _logits(other, batch, alone=alone).to(mine.device)
    found = divergence(theirs, mine)
    if not all(bool(one.isfinite().all()) for one in found):
        raise SftbenchError(
            "a divergence is not finite: the logits of a model hold NaN, or one of the two forbids "
            "a token that the other allows",
            remedy="Look for NaN in the checkpoint, or use --dtype float32.",
        )
    columns = [one.cpu().tolist() for one in found]
    firsts = _firsts(batch)
    places = [place for place, text in zip(firsts, batch, strict=True) if has_paper_kl(text, 0)]
    tops = iter(top_divergence(theirs[places], mine[places]).tolist())
    return [
        row_of(
            text,
            position,
            kl_tuned_base=columns[0][first + position],
            kl_base_tuned=columns[1][first + position],
            beyond=columns[2][first + position],
            paper_kl=next(tops) if has_paper_kl(text, position) else None,
        )
        for first, text in zip(firsts, batch, strict=True)
        for position in range(len(text.kinds))
    ]


def _firsts(batch: Sequence[Text]) -> list[int]:
    """Return the place of each text's first position among all positions of the batch."""
    places, place = [], 0
    for text in batch:
        places.append(place)
        place += len(text.kinds)
    return places


def _logits(engine: WholeReader, batch: Sequence[Text], *, alone: bool = False) -> torch.Tensor:
    """Return the logits of every position of the batch, ``[positions, vocabulary]``."""
    import torch

    keep = max(len(text.kinds) for text in batch)
    if alone:
        each = [engine.next_logits([[*t.prompt, *t.rest]], len(t.kinds))[0] for t in batch]
        return torch.cat(each)
    logits = engine.next_logits([[*text.prompt, *text.rest] for text in batch], keep)
    return torch.cat(
        [one[keep - len(text.kinds) :] for one, text in zip(logits, batch, strict=True)]
    )
