"""What is checked: the arguments of `sftbench check`, already read and resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sftbench.checkpoints.pair import Pair
from sftbench.checkpoints.rules import Restored
from sftbench.compare.chat import Chat
from sftbench.engines.settings import EngineSettings
from sftbench.facts.prompts import PROMPTS, Prompt

NOTES = "check.json"
CARD = "card.parquet"


@dataclass(frozen=True)
class CheckRequest:
    """What to check.

    Attributes:
        models: base and tuned model.
        out: folder of everything: `NOTES`, perhaps `CARD`, and the comparison.
        budget: seconds that it may take, start to end.
        facts: fact table as the user named it; None to choose.
        mastery: mastery card as the user named it; None to find one, or to make one.
        restored: restored variants to ask.
        candidates: restores to choose one of, on facts that are not scored.
        noise: random changes of the fine-tune's size to ask as well.
        prompt: how questions are put.
        chat: who is asked through a chat template.
        engine: which engine.
        loss: tell kinds of loss apart, beyond the budget if it takes longer.
        drift: measure how predictions and weights moved, likewise.
    """

    models: Pair
    out: Path
    budget: float
    facts: str | None = None
    mastery: str | None = None
    restored: tuple[Restored, ...] = ()
    candidates: tuple[Restored, ...] = ()
    noise: int = 0
    prompt: Prompt = field(default_factory=lambda: PROMPTS["fewshot"])
    chat: Chat = "none"
    engine: EngineSettings = field(default_factory=EngineSettings)
    loss: bool = False
    drift: bool = False
