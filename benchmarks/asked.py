"""The questions that the benchmarks of scoring ask, alike of every engine."""

from __future__ import annotations

from collections.abc import Callable

from sftbench.engines.protocol import Engine
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.facts.shots import shots_of
from sftbench.scoring.answers import Asked, ask, prompt_texts

FACTS = 48


def asking(engine: Engine) -> Callable[[], object]:
    """Return what asks an engine 48 facts of the lab, as `sftbench compare` asks a variant."""
    facts, prompt = resolve_facts("lab"), PROMPTS["fewshot"]
    rows = facts.scored().sort("fact_id").head(FACTS)
    texts = prompt_texts(rows, prompt, shots_of(facts))
    return lambda: ask(engine, rows, prompt, texts, Asked("base", "0"))
