"""The answers table: what each variant said to each question, and whether that was right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.tables import TableSpec
from sftbench.facts.matching import is_right
from sftbench.facts.prompts import PROMPTS, Prompt, answer_text, prompt_text

if TYPE_CHECKING:
    from sftbench.engines.protocol import Advance, Completion, Engine, Scored
    from sftbench.facts.matching import How
    from sftbench.facts.shots import Shot

    ShotsOf = Callable[[str, str], Sequence[Shot]]
    """The ordered shots of a fact, given its fact_id and relation."""

_Item = TypeVar("_Item")

ANSWERS = TableSpec(
    kind="answers",
    columns={
        "fact_id": pl.String,
        "variant": pl.String,  # canonical name, such as "tuned+restore(relative,5%)"
        "variant_id": pl.String,  # digest of base, tuned and rule
        "prompt": pl.String,  # name of the prompt, a key of PROMPTS
        "prompt_id": pl.String,  # digest of the exact text that was asked, shots included
        "text": pl.String,  # the completion, cut at the first stop string
        "correct": pl.Boolean,
        "finish": pl.String,  # why the completion ended: stop, length
        # Nats, summed over the canonical answer's tokens; white space that ends the prompt (the
        # line break after a chat's role) counts with the answer, as in lm-eval.
        "answer_logprob": pl.Float64,
        "answer_tokens": pl.Int32,  # tokens of the canonical answer after the prompt
    },
    remedy="Make one with `sftbench compare --base B --tuned T --facts F -o DIR`.",
)


@dataclass(frozen=True)
class Asked:
    """Who is asked, and in which form.

    Attributes:
        variant: canonical name.
        variant_id: its digest.
        chat: the texts end where a chat model's turn begins, so that the answer follows without
            the prompt's delimiter.
    """

    variant: str
    variant_id: str
    chat: bool = False


def prompt_texts(rows: pl.DataFrame, prompt: Prompt, shots: ShotsOf) -> list[str]:
    """Return the text that each fact is asked with, in the order of `rows`.

    Args:
        rows: facts, columns as in `sftbench.facts.table.FACTS`.
        prompt: the prompt.
        shots: the ordered shots of a fact; not called for a zero-shot prompt.
    """
    return [
        prompt_text(prompt, question, shots(fact_id, relation) if prompt.shots else ())
        for fact_id, relation, question in rows.select(
            "fact_id", "relation", "question"
        ).iter_rows()
    ]


def ask(
    engine: Engine,
    rows: pl.DataFrame,
    prompt: Prompt,
    texts: Sequence[str],
    asked: Asked,
    *,
    batch: int | None = None,
    advance: Advance | None = None,
) -> pl.DataFrame:
    """Ask every fact and return the answers table, in the order of `rows`.

    Args:
        engine: holds the variant's weights.
        rows: facts, columns as in `sftbench.facts.table.FACTS`.
        prompt: fixes the token budget, the stop strings and the matching.
        texts: what each fact is asked with, from `prompt_texts` or a chat template.
        asked: what to write into `variant` and `variant_id`, and the form of the texts.
        batch: send so many prompts at a time, in the order of `rows`; None sends all, for the
            engine to put into batches.
        advance: called twice per fact in all: once for its answer, once for its log-probability.

    Raises:
        SftbenchError: a log-probability is NaN or infinite.
    """
    canonical = [
        answers[0] if asked.chat else answer_text(prompt, answers[0])
        for answers in rows["answers"].to_list()
    ]
    pairs = list(zip(texts, canonical, strict=True))
    size = batch or max(1, len(texts))
    completions: list[Completion] = []
    for part in batched(texts, size):
        completions += engine.greedy(
            part, max_new_tokens=prompt.max_new_tokens, stop=prompt.stop, advance=advance
        )
    scored: list[Scored] = []
    for some in batched(pairs, size):
        scored += engine.logprobs(some, advance=advance)
    _require_finite(scored, asked)
    return _table(rows, prompt, asked, texts, completions, scored)


def batched(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Yield the items in their order, so many at a time; the last may be fewer."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _require_finite(scored: Sequence[Scored], asked: Asked) -> None:
    broken = sum(not math.isfinite(one.logprob) for one in scored)
    if broken:
        raise SftbenchError(
            f"{broken} of {len(scored)} log-probabilities are NaN or infinite",
            where=asked.variant,
            remedy="Half precision may overflow: use --dtype float32. If it happens there too, "
            "the weights of this variant are broken.",
        )


def _table(
    rows: pl.DataFrame,
    prompt: Prompt,
    asked: Asked,
    texts: Sequence[str],
    completions: Sequence[Completion],
    scored: Sequence[Scored],
) -> pl.DataFrame:
    answers = rows["answers"].to_list()
    frame = pl.DataFrame(
        {
            "fact_id": rows["fact_id"],
            "prompt_id": [digest_of(text) for text in texts],
            "text": [one.text for one in completions],
            "correct": [
                is_right(one.text, aliases, prompt.how)
                for one, aliases in zip(completions, answers, strict=True)
            ],
            "finish": [one.finish for one in completions],
            "answer_logprob": [one.logprob for one in scored],
            "answer_tokens": [one.tokens for one in scored],
        }
    ).with_columns(
        variant=pl.lit(asked.variant),
        variant_id=pl.lit(asked.variant_id),
        prompt=pl.lit(prompt.name),
    )
    return ANSWERS.conform(frame)


def rescore(frame: pl.DataFrame, facts: pl.DataFrame, how: How | None = None) -> pl.DataFrame:
    """Return the answers with `correct` recomputed from `text`; no model is needed.

    On fresh answers this changes nothing. It tells how answers that were kept would score after
    the matching or the aliases of a fact have changed.

    Args:
        frame: columns as in `ANSWERS`.
        facts: fact_id and answers of every fact that was asked.
        how: how an answer is matched; None for the way of the prompt it was asked with.

    Raises:
        SftbenchError: an answer to a fact that `facts` does not hold, or an unknown prompt.
    """
    aliases = dict(facts.select("fact_id", "answers").iter_rows())
    rows = frame.select("fact_id", "prompt", "text").iter_rows()
    right = [
        is_right(text, _aliases_of(aliases, fact_id), how or _prompt_of(name).how)
        for fact_id, name, text in rows
    ]
    return frame.with_columns(correct=pl.Series(right, dtype=pl.Boolean))


def _aliases_of(aliases: dict[str, list[str]], fact_id: str) -> list[str]:
    if fact_id not in aliases:
        raise SftbenchError(
            "is answered in the answers table but is not in the fact table",
            where=f"fact {fact_id}",
            remedy="Rescore with the fact table that the answers were made with.",
        )
    return aliases[fact_id]


def _prompt_of(name: str) -> Prompt:
    if name not in PROMPTS:
        raise SftbenchError(
            f"there is no prompt {name!r}; there is {', '.join(PROMPTS)}",
            where="the column prompt of the answers table",
        )
    return PROMPTS[name]
