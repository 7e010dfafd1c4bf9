"""What is asked for: the arguments of a comparison, already read and resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sftbench.checkpoints.rules import Restored
from sftbench.compare.chat import Chat
from sftbench.compare.select import Part
from sftbench.engines.settings import EngineSettings
from sftbench.facts.prompts import Prompt
from sftbench.facts.table import FactSet
from sftbench.mastery.card import MasteryCard


@dataclass(frozen=True)
class TaskRequest:
    """Which lm-eval tasks every variant is also run on.

    Attributes:
        names: tasks, groups or tags.
        limit: documents of each task, at most.
        folder: a folder with further task files; what it defines comes before lm-eval's own.
    """

    names: tuple[str, ...]
    limit: int | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Request:
    """One comparison.

    Attributes:
        base: folder of the base.
        tuned: folder of the tuned model.
        out: folder of the result.
        facts: the fact set.
        card: the mastery card of the base on these facts.
        prompt: how questions are put.
        restored: restored variants to ask, in the order in which they are shown.
        noise: random changes of the fine-tune's size to ask as well; with any, the base is asked
            once more in other batches too.
        engine: which engine and its settings.
        limit: ask at most so many facts, balanced over level and domain.
        domain: ask only facts of this domain.
        part: ask all facts, those that a restore is chosen on, or the others.
        chat: who is asked through the chat template of the tokenizer.
        tasks: lm-eval tasks to run as well.
        loss: tell kinds of loss apart (docs/loss.md).
        remeasure: with `loss`, measure the mastery of every fact again, before and after.
        drift: measure how predictions and weights moved (docs/drift.md).
        notes: what is known of the two models already and a reader must know, such as how the
            base was found; one sentence each.
        base_name: how the user named the base.
        tuned_name: how the user named the tuned model.
        command: the command line, for the record.
    """

    base: Path
    tuned: Path
    out: Path
    facts: FactSet
    card: MasteryCard
    prompt: Prompt
    restored: tuple[Restored, ...] = ()
    noise: int = 0
    engine: EngineSettings = field(default_factory=EngineSettings)
    limit: int | None = None
    domain: str | None = None
    part: Part = "all"
    chat: Chat = "none"
    tasks: TaskRequest | None = None
    loss: bool = False
    remeasure: bool = False
    drift: bool = False
    notes: tuple[str, ...] = ()
    base_name: str = ""
    tuned_name: str = ""
    command: str = ""
