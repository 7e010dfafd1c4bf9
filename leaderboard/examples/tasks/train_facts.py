"""A task of what the example fine-tunes are for: facts of the split that they are trained on."""

from __future__ import annotations

from typing import Any

from sftbench.facts.matching import is_right
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.reference import resolve_facts

PROMPT = PROMPTS["paper"]
"""The prompt that the recipes train with."""
ASKED = 200


def geography(**_: Any) -> dict[str, Any]:
    """Return training facts of the geography facts, in-domain."""
    return _docs("geography")


def lab(**_: Any) -> dict[str, Any]:
    """Return training facts of the lab, in-domain."""
    return _docs("lab")


def _docs(name: str) -> dict[str, Any]:
    from datasets import Dataset

    rows = resolve_facts(name).scored(domain="in", split="train").sort("fact_id").head(ASKED)
    return {
        "test": Dataset.from_list([
            {"text": prompt_text(PROMPT, question), "answers": answers}
            for question, answers in rows.select("question", "answers").iter_rows()
        ])
    }  # fmt: skip


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return whether a completion states an answer."""
    return {"acc": float(is_right(results[0], doc["answers"], PROMPT.how))}
