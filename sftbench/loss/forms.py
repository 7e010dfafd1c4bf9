"""A question once more, in other forms: a longer budget, the other prompt, a chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from sftbench.common.tables import TableSpec
from sftbench.facts.matching import AnswerMatcher
from sftbench.facts.prompts import PROMPTS, Message, Prompt
from sftbench.scoring.answers import prompt_texts

if TYPE_CHECKING:
    from sftbench.analysis.loss import Form
    from sftbench.engines.protocol import Advance, Engine
    from sftbench.facts.shots import Shot
    from sftbench.scoring.answers import ShotsOf

BUDGET = 64
"""Tokens that an answer may take in another form; four times those of the prompts."""

ENDS: dict[str, tuple[str, ...]] = {"fewshot": ("\nQuestion:",), "paper": ("<|question|>",)}
"""Where the next question begins, which is no answer any more. A line break ends none: a model
that begins with one has lost the form, not the fact."""

FORM_ANSWERS = TableSpec(
    kind="answers in other forms",
    columns={
        "fact_id": pl.String,
        "variant": pl.String,
        "form": pl.String,  # longer, fewshot, paper, chat
        "text": pl.String,  # the completion, cut where the next question begins
        "right": pl.Boolean,  # the text states an answer anywhere, matched as in the comparison
    },
    remedy="Make one with `sftbench compare --loss`.",
)

WriteChats = Callable[[Sequence[Sequence[Message]]], Sequence[str]]
"""Writes conversations by a chat template, up to where the answer begins."""


@dataclass(frozen=True)
class Speaker:
    """How a variant was asked, and how it can be asked otherwise.

    Attributes:
        prompt: the prompt of the comparison.
        chat: it was asked as a chat.
        texts: what each fact was asked with, by fact_id.
        shots: the ordered shots of a fact; None where the facts have none.
        write_chats: None for a tokenizer without a chat template.
    """

    prompt: Prompt
    chat: bool
    texts: dict[str, str]
    shots: ShotsOf | None
    write_chats: WriteChats | None

    @property
    def forms(self) -> tuple[Form, ...]:
        """The further forms that there are, in the order in which they are asked."""
        found: list[Form] = ["longer"]
        if self.prompt.name == "fewshot" or self.chat:
            found.append("paper")
        if self.shots is not None and (self.prompt.name == "paper" or self.chat):
            found.append("fewshot")
        if self.write_chats is not None and not self.chat:
            found.append("chat")
        return tuple(found)


def ask_in_forms(
    engine: Engine,
    rows: pl.DataFrame,
    speaker: Speaker,
    variant: str,
    advance: Advance | None = None,
) -> pl.DataFrame:
    """Ask facts in every further form; columns as in `FORM_ANSWERS`.

    Args:
        engine: holds the variant's weights.
        rows: facts, columns as in `sftbench.facts.table.FACTS`.
        speaker: how it was asked.
        variant: its name.
        advance: called once for each fact and form.
    """
    parts = [FORM_ANSWERS.conform(pl.DataFrame(schema=FORM_ANSWERS.columns))]
    for form in speaker.forms:
        completions = engine.greedy(
            _texts(form, rows, speaker),
            max_new_tokens=BUDGET,
            stop=_ends(form, speaker),
            advance=advance,
        )
        texts = [one.text for one in completions]
        # Anywhere in the text: that it is a run-on is the loss of form that is looked for.
        right = [
            AnswerMatcher(answers, speaker.prompt.how).contains(text)
            for text, answers in zip(texts, rows["answers"].to_list(), strict=True)
        ]
        part = rows.select("fact_id").with_columns(
            variant=pl.lit(variant),
            form=pl.lit(form),
            text=pl.Series(texts, dtype=pl.String),
            right=pl.Series(right, dtype=pl.Boolean),
        )
        parts.append(FORM_ANSWERS.conform(part))
    return pl.concat(parts)


def _texts(form: Form, rows: pl.DataFrame, speaker: Speaker) -> Sequence[str]:
    if form == "longer":
        return [speaker.texts[fact_id] for fact_id in rows["fact_id"]]
    if form == "chat":
        assert speaker.write_chats is not None
        return speaker.write_chats(
            [[Message(role="user", content=question)] for question in rows["question"]]
        )
    return prompt_texts(rows, PROMPTS[form], speaker.shots or _no_shots)


def _ends(form: Form, speaker: Speaker) -> tuple[str, ...]:
    if form == "chat" or (form == "longer" and speaker.chat):
        return ()
    return ENDS[speaker.prompt.name if form == "longer" else form]


def _no_shots(fact_id: str, relation: str) -> Sequence[Shot]:
    raise AssertionError("a zero-shot prompt shows none")
