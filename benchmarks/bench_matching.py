"""Matching: whether a text holds an answer, asked of whole answers and of texts that grow."""

from __future__ import annotations

from benchmarks.conftest import Measure
from benchmarks.references import INTERPRETER
from sftbench.facts.matching import AnswerMatcher, is_right
from sftbench.facts.reference import resolve_facts

JUDGED, WATCHED = 2000, 1000
COMPLETION = "It is said that the place is near the old town of Rome"


def answers_of(count: int) -> list[list[str]]:
    """Return the answers of so many facts of geography, aliases and all."""
    rows = resolve_facts("geography").scored().sort("fact_id").head(count)
    return list(rows["answers"].to_list())


def bench_matching(measure: Measure) -> None:
    """Judge 4,000 answers to 2,000 facts of geography, half of them those of the next fact."""
    facts = answers_of(JUDGED)
    said = [
        (f" {name}, of course.\nQuestion:", answers)
        for answers, others in zip(facts, [*facts[1:], facts[0]], strict=True)
        for name in (answers[0], others[0])
    ]
    measure(INTERPRETER, lambda: [is_right(text, answers) for text, answers in said])


def bench_watching(measure: Measure) -> None:
    """Look for the answers of 1,000 facts in a completion after each of its 13 words."""
    matchers = [AnswerMatcher(answers) for answers in answers_of(WATCHED)]
    words = COMPLETION.split()
    texts = [" ".join(words[:end]) + " " for end in range(1, len(words) + 1)]
    measure(INTERPRETER, lambda: [one.settled(text) for one in matchers for text in texts])
