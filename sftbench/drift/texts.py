"""What both models read: each fact as a cloze and as a question, with a kind for every token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sftbench.engines.following import following
from sftbench.facts.matching import AnswerMatcher
from sftbench.facts.templates import SUBJECT

if TYPE_CHECKING:
    import polars as pl

    from sftbench.engines.protocol import Engine
    from sftbench.facts.matching import How
    from sftbench.mastery.card import MasteryCard

Form = Literal["cloze", "question"]
FORMS: tuple[Form, ...] = ("cloze", "question")
Kind = Literal["lead-in", "answer", "end"]
LEAD_IN: Kind = "lead-in"
ANSWER: Kind = "answer"
END: Kind = "end"
KINDS: tuple[Kind, ...] = (LEAD_IN, ANSWER, END)

LONGEST = 16
"""Tokens of the base's own completion of a cloze."""
EARLY = 5
"""An answer is early if it begins within so many tokens: the paper says "near the start"."""


@dataclass(frozen=True)
class Text:
    """One text that both models read.

    Attributes:
        fact_id: of which fact.
        form: "cloze" or "question".
        prompt: token ids up to where the models are held against each other.
        rest: token ids after it, as far as the answer's end; the token after them is not given.
        kinds: of the token that each position predicts, the last is the "end": one more than
            `rest` has ids.
        own: `rest` is the base's own completion; False where it is the canonical answer.
    """

    fact_id: str
    form: Form
    prompt: tuple[int, ...]
    rest: tuple[int, ...]
    kinds: tuple[Kind, ...]
    own: bool

    @property
    def early(self) -> bool:
        """Whether the base states the answer by itself, and soon."""
        return self.own and self.kinds.index(ANSWER) < EARLY


def best_templates(
    card: MasteryCard, facts: pl.DataFrame, templates: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Return for each relation the template under which the base states answers most often.

    Over all facts of the relation that the card levels, train facts too; the first of equals.

    Args:
        card: of the base.
        facts: fact_id and relation of the fact set.
        templates: those of each relation.
    """
    import numpy as np

    relation_of = dict(facts.select("fact_id", "relation").iter_rows())
    sums: dict[str, Any] = {}
    for row in card.frame.select("fact_id", "hits", "chances").iter_rows(named=True):
        relation = relation_of.get(row["fact_id"])
        rates = _rates(row)
        if relation is None or len(rates) != len(templates.get(relation, ())):
            continue
        known = np.array([rate is not None for rate in rates], dtype=float)
        values = np.array([rate or 0.0 for rate in rates])
        total = sums.setdefault(relation, np.zeros((2, len(rates))))
        total += np.array([values, known])
    return {
        relation: int(np.argmax(total[0] / np.maximum(total[1], 1)))
        for relation, total in sorted(sums.items())
    }


def _rates(row: Mapping[str, Any]) -> list[float | None]:
    """Return the share of hits, or the chance of one, under each template."""
    if row["hits"] is not None:
        return [sum(drawn) / len(drawn) if drawn else None for drawn in row["hits"]]
    return list(row["chances"] or [])


def cloze_texts(
    engine: Engine,
    rows: pl.DataFrame,
    templates: Mapping[str, str],
    how: How,
) -> list[Text]:
    """Return each fact as a cloze: its template, then what the base says as far as the answer.

    Args:
        engine: holds the base; asked for its greedy completions.
        rows: facts, columns as in `sftbench.facts.table.FACTS`; those without a template are left
            out.
        templates: the template of each relation.
        how: how an answer is recognised.
    """
    facts = [row for row in rows.iter_rows(named=True) if row["relation"] in templates]
    prompts = [templates[row["relation"]].replace(SUBJECT, row["subject"]) for row in facts]
    said = engine.greedy(prompts, max_new_tokens=LONGEST, stop=("\n",))
    return [
        _cloze(engine, row, prompt, one.text, how)
        for row, prompt, one in zip(facts, prompts, said, strict=True)
    ]


def _cloze(engine: Engine, row: Mapping[str, Any], prompt: str, said: str, how: How) -> Text:
    said = following(engine, said)
    ids, rest = engine.encode_pair(prompt, said) if said else (engine.encode(prompt), [])
    found = _answer_in(engine, rest, AnswerMatcher(row["answers"], how))
    if found is None:
        ids, rest = engine.encode_pair(prompt, f" {row['answers'][0]}")
    start, stop = found or (0, len(rest))
    kinds = [LEAD_IN] * start + [ANSWER] * (stop - start) + [END]
    return Text(
        row["fact_id"], "cloze", tuple(ids), tuple(rest[:stop]), tuple(kinds), found is not None
    )


def _answer_in(
    engine: Engine, ids: Sequence[int], matcher: AnswerMatcher
) -> tuple[int, int] | None:
    """Return which tokens state an answer, ``[start, stop)``; None where none do.

    It ends with the first token after which it stands there and keeps standing there ("Niger" of
    "Nigeria" does not), and begins with the last from which on it can still be read.
    """
    stands = [matcher.contains(_text(engine, ids[: end + 1])) for end in range(len(ids))]
    stop = next(
        (end + 1 for end in range(len(ids)) if stands[end] and all(stands[end : end + 2])), None
    )
    if stop is None:
        return None
    start = max(start for start in range(stop) if matcher.contains(_text(engine, ids[start:stop])))
    return start, stop


def question_texts(
    engine: Engine, rows: pl.DataFrame, prompts: Sequence[str], answers: Sequence[str]
) -> list[Text]:
    """Return each fact as the question of the comparison, then its canonical answer.

    Args:
        engine: encodes the texts.
        rows: facts.
        prompts: what each is asked with.
        answers: the canonical answer of each as it follows the prompt.
    """
    found = []
    for fact_id, prompt, answer in zip(rows["fact_id"], prompts, answers, strict=True):
        ids, rest = engine.encode_pair(prompt, answer)
        kinds = [ANSWER] * len(rest) + [END]
        found.append(Text(fact_id, "question", tuple(ids), tuple(rest), tuple(kinds), own=False))
    return found


def _text(engine: Engine, ids: Sequence[int]) -> str:
    text: str = engine.tokenizer.decode(list(ids), skip_special_tokens=True)
    return text
