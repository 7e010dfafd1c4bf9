"""The check for people in a hurry: base, card and size are found, then it is a comparison."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.pair import Pair
from sftbench.checkpoints.tokenizers import tokenizer_digest
from sftbench.checkpoints.variants import percent_text
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json, require_free, write_json
from sftbench.compare.bench import Bench
from sftbench.compare.budget import PROBES, Speed, duration_text, measure
from sftbench.compare.chat import FLAGS, Chat
from sftbench.compare.levels import find_facts, level_within
from sftbench.compare.plan import make_plan
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.compare.select import select
from sftbench.engines.settings import BATCH_SIZES, EngineFactory, EngineSettings
from sftbench.facts.prompts import PROMPTS, Prompt
from sftbench.facts.table import FactSet
from sftbench.mastery.card import MasteryCard
from sftbench.report.notes import FEW_KNOWN
from sftbench.report.words import count

NOTES = "check.json"
CARD = "card.parquet"
COMPARISON = "compare"
LEVELLING_SHARE = 0.5
"""Of the time given, where facts must be levelled first."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class CheckRequest:
    """What to check.

    Attributes:
        models: base and tuned model.
        out: folder of everything: `NOTES`, perhaps `CARD`, and the comparison.
        budget: seconds that it may take, start to end.
        facts: fact table as the user named it; None to choose.
        mastery: mastery card as the user named it; None to find one, or to make one.
        percents: shares to restore, percent, ascending.
        prompt: how questions are put.
        chat: who is asked through a chat template.
        engine: which engine.
    """

    models: Pair
    out: Path
    budget: float
    facts: str | None = None
    mastery: str | None = None
    percents: tuple[Decimal, ...] = ()
    prompt: Prompt = field(default_factory=lambda: PROMPTS["fewshot"])
    chat: Chat = "none"
    engine: EngineSettings = field(default_factory=EngineSettings)


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
        size = _size(request, bench, notes, wanted.budget - (time.monotonic() - began), say)
        sized = replace(request, limit=size)
        command = compare_command(wanted, sized)
        compared = run(replace(sized, command=command), bench.factory, say)
    for line in _little(compared):
        say(line)
    taken = time.monotonic() - began
    say(f"Took {duration_text(taken)} of the {duration_text(wanted.budget)} given.")
    return Checked(compared, request.out, _next_steps(wanted, sized, compared))


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
        percents=wanted.percents,
        engine=wanted.engine,
        chat=wanted.chat,
        notes=wanted.models.notes,
        base_name=wanted.models.base_name,
        tuned_name=wanted.models.tuned_name,
    )


def _size(request: Request, bench: Bench, notes: _Notes, left: float, say: Say) -> int | None:
    """Return how many facts to ask, None for all; noted, so that a resumed check asks the same."""
    there = select(request.facts, request.card).rows.height
    if "facts" not in notes:
        plan = make_plan(replace(request, limit=None))
        say(f"The speed is measured first, on {PROBES} facts.")
        began = time.monotonic()
        engine = bench.engine()
        speed = measure(engine, request.base, request.prompt, plan.sides.base.texts)
        left -= time.monotonic() - began
        size = min(there, speed.facts(left, len(request.percents)))
        say(_sized(request, speed, size, there, left))
        notes["facts"] = size
    else:
        say(f"As before, {notes['facts']:,} of {there:,} levelled facts are asked.")
    size = int(notes["facts"])
    return None if size >= there else size


def _sized(request: Request, speed: Speed, size: int, there: int, left: float) -> str:
    models = 2 + len(request.percents)
    takes = speed.seconds(size, len(request.percents))
    which = (
        f"all {there:,} levelled facts"
        if size == there
        else f"{size:,} of {there:,} levelled facts, balanced over level and domain,"
    )
    text = (
        f"A fact takes {speed.fact:.2g} s a model: {which} are asked of {models} models, "
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


def compare_command(wanted: CheckRequest, request: Request, **changes: str | None) -> str:
    """Return the `sftbench compare` that does the same; `changes` replaces or (None) drops flags.

    Args:
        wanted: the check.
        request: the comparison that came of it.
        changes: flag without dashes, underscores for dashes, to value.
    """
    card = request.card.path if (wanted.mastery or _is_made(wanted, request)) else None
    flags: dict[str, str | None] = {
        "base": request.base_name,
        "tuned": request.tuned_name,
        "facts": wanted.facts or request.facts.name,
        "mastery": None if card is None else str(card),
        "restore": ",".join(percent_text(one) for one in request.percents) or None,
        "prompt": None if request.prompt.name == "fewshot" else request.prompt.name,
        "limit": None if request.limit is None else str(request.limit),
        **_engine_flags(request.engine),
        "batch_size": _batch_size(request.engine),
        "output": str(request.out),
        **changes,
    }
    return _command("compare", flags, FLAGS[request.chat])


def _command(verb: str, flags: Mapping[str, str | None], switches: Sequence[str] = ()) -> str:
    """Return a command line; a flag without a value is left out."""
    import shlex

    parts = [
        part
        for flag, value in flags.items()
        if value is not None
        for part in (f"--{flag.replace('_', '-')}", value)
    ]
    return shlex.join(["sftbench", verb, *parts, *switches])


def _engine_flags(settings: EngineSettings) -> dict[str, str | None]:
    """Return the flags that every command with an engine has; None where it is the default."""
    return {
        "dtype": None if settings.dtype == "float32" else settings.dtype,
        "engine": settings.name,
        # As JSON: a text value with a comma, or that looks like a number, is read as it was.
        "engine_options": json.dumps(dict(settings.options)) if settings.options else None,
    }


def _batch_size(settings: EngineSettings) -> str | None:
    """Return the batch size as a flag's value; None where it is the engine's own."""
    return None if settings.batch_size == BATCH_SIZES[settings.name] else str(settings.batch_size)


def _is_made(wanted: CheckRequest, request: Request) -> bool:
    return request.card.path == wanted.out / CARD


def _next_steps(
    wanted: CheckRequest, request: Request, compared: Compared
) -> tuple[tuple[str, str], ...]:
    """Return what to do next, the first step first."""
    steps = _on_all_facts(wanted, request, compared)
    steps.append(
        (
            "what it was tuned for",
            compare_command(wanted, request, tasks="TASK", output=f"{wanted.out}-tasks"),
        )
    )
    healing = _healing_percents(request, compared)
    if healing:
        flags: dict[str, str | None] = {
            "base": request.base_name,
            "tuned": request.tuned_name,
            "percent": ",".join(healing),
            "output": f"{wanted.out}-restored",
        }
        what = "a restored model" if len(healing) == 1 else "the restored models"
        steps.append((what, _command("restore", flags)))
    rescored = _command("rescore", {"matching": "strict-paper"}, [str(request.out)])
    return (*steps, ("the paper's matching", rescored))


def _on_all_facts(
    wanted: CheckRequest, request: Request, compared: Compared
) -> list[tuple[str, str]]:
    """Return how to ask every fact; those without a level must be levelled before."""
    full = f"{wanted.out}-full"
    if not compared.summary.run.facts.unlevelled:
        if request.limit is None:
            return []
        return [("all facts", compare_command(wanted, request, limit=None, output=full))]
    card = f"{wanted.out}-card.parquet"
    flags = {
        "model": request.base_name,
        "facts": wanted.facts or request.facts.name,
        **_engine_flags(request.engine),
        "rows": _batch_size(request.engine) if request.engine.name == "vllm" else None,
        "output": card,
    }
    command = compare_command(wanted, request, limit=None, mastery=card, output=full)
    return [
        ("the levels of all facts", _command("mastery", flags)),
        ("all facts, after that", command),
    ]


def _healing_percents(request: Request, compared: Compared) -> list[str]:
    """Return the percentages asked for that brought a lost fact back; none is called the best."""
    asked = zip(sorted(request.percents), compared.summary.restored, strict=True)
    return [
        percent_text(percent)
        for percent, variant in asked
        if any(one.repair is not None and one.repair.healed for one in variant.domains)
    ]
