"""The check for people in a hurry: base, card and size are found, then it is a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.tokenizers import tokenizer_digest
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json, require_free, write_json
from sftbench.compare.bench import Bench
from sftbench.compare.budget import PROBES, Speed, Variants, duration_text, measure
from sftbench.compare.check_request import CARD, NOTES, CheckRequest
from sftbench.compare.finished import COMPARISON
from sftbench.compare.levels import find_facts, level_within
from sftbench.compare.next_steps import compare_command, next_steps
from sftbench.compare.plan import make_plan
from sftbench.compare.repair import run_with_repair
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.compare.select import select
from sftbench.engines.settings import EngineFactory
from sftbench.facts.table import FactSet
from sftbench.mastery.card import MasteryCard
from sftbench.report.notes import FEW_KNOWN
from sftbench.report.words import count

LEVELLING_SHARE = 0.5
"""Of the time given, where facts must be levelled first."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        compared: the comparison.
        folder: where it lies.
        next_steps: (what for, command) of what to do next.
    """

    compared: Compared
    folder: Path
    next_steps: tuple[tuple[str, str], ...]


def run_check(wanted: CheckRequest, factory: EngineFactory, say: Say) -> Checked:
    """Find facts and levels, choose a size that fits the time, compare.

    It can be stopped and run again: the size that was chosen first stays, and what was answered
    is not asked again.

    Args:
        wanted: what to check.
        factory: makes engines.
        say: told each decision, one sentence each.

    Raises:
        SftbenchError: as for a comparison, or the folder holds the check of other things.
    """
    began = time.monotonic()
    say = _once(say)
    for note in wanted.models.notes:
        say(note)
    facts, card = find_facts(wanted.facts, wanted.mastery, checkpoint_digest(wanted.models.base))
    notes = _Notes.of(wanted, facts, card)
    with Bench(factory, wanted.models.base, wanted.engine) as bench:
        if card is None:
            left = wanted.budget * LEVELLING_SHARE - (time.monotonic() - began)
            card = level_within(
                left, bench, facts, wanted.models.base, wanted.out / CARD, notes, say
            )
        else:
            say(f"The levels are those of {_card_name(card)}.")
        request = _request(wanted, facts, card)
        asked = Variants(len(wanted.restored), wanted.noise, len(wanted.candidates))
        left = wanted.budget - (time.monotonic() - began)
        size = _size(request, asked, bench, notes, left, say)
        sized = replace(request, limit=size)
        command = compare_command(wanted, sized)
        full = replace(sized, command=command)
        if wanted.candidates:
            compared = run_with_repair(full, wanted.candidates, bench, say)
        else:
            compared = run(full, bench, say)
    for line in _little(compared):
        say(line)
    taken = time.monotonic() - began
    say(f"Took {duration_text(taken)} of the {duration_text(wanted.budget)} given.")
    return Checked(compared, request.out, next_steps(wanted, sized, compared))


def _little(compared: Compared) -> list[str]:
    """Return a warning where a verdict rests on too few facts to say much."""
    known = sum(one.retention.known for one in compared.summary.tuned.domains)
    if known >= FEW_KNOWN:
        return []
    text = (
        f"What was kept rests on the {count(known, 'fact')} of level 1 to 4 that the base answers "
        "right: very little."
    )
    facts = compared.summary.run.facts
    if facts.limit is not None:
        text += " A longer --budget in another folder asks more."
    elif facts.unlevelled:
        text += " To ask more, more must be levelled: see the commands at the end."
    return [text]


def _once(say: Say) -> Say:
    """Return what passes each sentence on the first time only."""
    told: set[str] = set()

    def pass_on(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    return pass_on


@dataclass
class _Notes:
    """What was decided in an earlier run of the same check, and stays decided.

    Attributes:
        path: the file.
        content: the key of the check, and the decisions by name.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def of(cls, wanted: CheckRequest, facts: FactSet, card: MasteryCard | None) -> _Notes:
        """Read the notes of a folder, or begin them; the folder must be free or of this check."""
        path = wanted.out / NOTES
        key = _key(wanted, facts, card)
        if not path.is_file():
            require_free(wanted.out)
            return cls(path, {"key": key})
        content = read_json(path)
        if not isinstance(content, dict) or content.get("key") != key:
            raise SftbenchError(
                "holds the check of other models, facts or settings",
                where=wanted.out,
                remedy="Name another folder with -o, or remove this one.",
            )
        return cls(path, content)

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    def __setitem__(self, name: str, value: object) -> None:
        """Note a decision on disk before anything follows from it."""
        self.content[name] = value
        write_json(self.path, self.content)


def _key(wanted: CheckRequest, facts: FactSet, card: MasteryCard | None) -> str:
    settings = wanted.engine
    return digest_of(
        {
            "base": checkpoint_digest(wanted.models.base),
            "tuned": checkpoint_digest(wanted.models.tuned),
            "tokenizers": [
                tokenizer_digest(path) for path in (wanted.models.base, wanted.models.tuned)
            ],
            "facts": facts.digest,
            "card": None if card is None else card.digest,
            "prompt": wanted.prompt.name,
            "chat": wanted.chat,
            "engine": [settings.name, settings.dtype, settings.batch_size],
            "options": [list(option) for option in settings.options],
        }
    )


def _request(wanted: CheckRequest, facts: FactSet, card: MasteryCard) -> Request:
    return Request(
        base=wanted.models.base,
        tuned=wanted.models.tuned,
        out=wanted.out / COMPARISON,
        facts=facts,
        card=card,
        prompt=wanted.prompt,
        restored=wanted.restored,
        noise=wanted.noise,
        engine=wanted.engine,
        chat=wanted.chat,
        loss=wanted.loss,
        drift=wanted.drift,
        notes=wanted.models.notes,
        base_name=wanted.models.base_name,
        tuned_name=wanted.models.tuned_name,
    )


def _size(
    request: Request, asked: Variants, bench: Bench, notes: _Notes, left: float, say: Say
) -> int | None:
    """Return how many facts to ask, None for all; noted, so that a resumed check asks the same."""
    there = select(request.facts, request.card).rows.height
    if "facts" not in notes:
        plan = make_plan(replace(request, limit=None))
        say(f"The speed is measured first, on {PROBES} facts.")
        began = time.monotonic()
        engine = bench.engine()
        speed = measure(engine, request.base, request.prompt, plan.sides.base.texts)
        left -= time.monotonic() - began
        size = min(there, speed.facts(left, asked))
        say(_sized(asked, speed, size, there, left))
        notes["facts"] = size
    else:
        say(f"As before, {notes['facts']:,} of {there:,} levelled facts are asked.")
    size = int(notes["facts"])
    return None if size >= there else size


def _sized(asked: Variants, speed: Speed, size: int, there: int, left: float) -> str:
    takes = speed.seconds(size, asked)
    which = (
        f"all {there:,} levelled facts"
        if size == there
        else f"{size:,} of {there:,} levelled facts, balanced over level and domain,"
    )
    text = (
        f"A fact takes {speed.fact:.2g} s a model: {which} are asked of {asked.models} models, "
        f"in about {duration_text(takes)}."
    )
    if takes <= left:
        return text
    if left < 1:
        return f"{text} The time given is used up, but fewer than {size} would say nothing."
    return (
        f"{text} That is more than the {duration_text(left)} left, but fewer than {size} would "
        "say nothing."
    )


def _card_name(card: MasteryCard) -> str:
    made = f"{card.record.get('model_name')} on {card.record.get('facts_name')}"
    return f"the mastery card of {made} ({card.frame.height:,} facts)"
