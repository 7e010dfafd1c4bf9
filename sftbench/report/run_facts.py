"""How it was run, as the page lists it: what was compared, on what, with what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sftbench.analysis.summary import Summary
from sftbench.report import words


class RunFact(NamedTuple):
    """A line of the list; an identifier is set in monospace."""

    name: str
    value: str
    identifier: bool = False


def run_facts(summary: Summary) -> list[RunFact]:
    """Return what decides the result, in the order to read it."""
    run = summary.run
    seconds = ", ".join(f"{words.label(one)} {one.seconds:.0f} s" for one in summary.variants)
    rescored = summary.rescored_from
    return [
        *([RunFact("Scored again from", rescored)] if rescored else []),
        RunFact("Base", run.base.name),
        RunFact("Base digest", run.base.digest, identifier=True),
        RunFact("Base tokenizer", run.base.tokenizer_digest, identifier=True),
        RunFact("Tuned", run.tuned.name),
        RunFact("Tuned digest", run.tuned.digest, identifier=True),
        RunFact("Tuned tokenizer", run.tuned.tokenizer_digest, identifier=True),
        RunFact("Update norm", f"{run.update_norm:.4g} (L2, tuned minus base)"),
        RunFact("Facts", _asked(summary)),
        RunFact("Fact set digest", run.facts.digest, identifier=True),
        RunFact("Digest of those asked", run.facts.asked_digest, identifier=True),
        RunFact("Mastery card", str(run.card.get("digest", "")), identifier=True),
        RunFact("Prompt", _prompt(summary)),
        RunFact("Engine", _pairs(run.engine)),
        *([RunFact("Restore arithmetic", run.arithmetic)] if summary.restored else []),
        RunFact("Software", _pairs(run.software)),
        RunFact("Time", f"{seconds}; made {run.made}"),
        RunFact("Run key", run.key, identifier=True),
    ]


def _asked(summary: Summary) -> str:
    facts = summary.run.facts
    limit = f", balanced to a limit of {facts.limit:,}" if facts.limit else ""
    kept = summary.repair.facts if summary.repair else 0
    chose = f"; {words.count(kept, 'other fact')} chose the restore" if kept else ""
    return f"{words.count(facts.asked, 'fact')} of the test split of {facts.name}{limit}{chose}"


def _prompt(summary: Summary) -> str:
    prompt = summary.run.prompt
    chat = ", through the tokenizer's chat template" if summary.chat else ""
    return (
        f"{prompt.name}: {words.count(prompt.shots, 'shot')}{chat}, greedy, at most "
        f"{prompt.max_new_tokens} tokens, answers matched by {prompt.how}"
    )


def _pairs(named: Mapping[str, str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in named.items())


def recipe_text(record: Mapping[str, Any]) -> str:
    """Return the recipe record as text, without the names of the facts, which may be thousands."""
    return json.dumps(_without_fact_ids(record), indent=2, ensure_ascii=False)


def _without_fact_ids(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_fact_ids(part) for key, part in value.items() if key != "fact_ids"}
