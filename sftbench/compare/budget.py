"""How many facts fit into the time given: durations, measured speed, and the size they allow."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sftbench.checkpoints.lazy import Folder
from sftbench.common.errors import SftbenchError
from sftbench.compare.select import VALIDATION_SHARE
from sftbench.engines.protocol import Engine
from sftbench.facts.prompts import Prompt

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:([0-9.]+)h)?(?:([0-9.]+)m)?(?:([0-9.]+)s)?")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")

FEWEST_FACTS = 20
"""Two of each level and domain: with fewer there is nothing to say."""
PROBES = 16
"""Facts that the speed is measured on."""
SHARE_USED = 0.8
"""Of the time that is left: other facts have longer answers, and machines have other work."""
SECONDS_PER_RANKED = 7e-8
SECONDS_PER_RESTORED = 2.5e-8
SECONDS_PER_PERTURBED = 3.5e-8
"""Ranking a scalar, putting it into one restored variant, and changing it at random: measured on
SmolLM2 (106 million scalars: 7.3 s and 2.5 s of one core; 135 million: 4.7 s), where reading
takes a tenth of a second."""


def parse_duration(text: str) -> float:
    """Return seconds from "90s", "10m", "1h30m".

    Raises:
        SftbenchError: it is no duration, or none at all.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    parts = found.groups() if found else ()
    if not any(parts) or any(part and not _NUMBER.fullmatch(part) for part in parts):
        raise _no_duration(text)
    seconds = sum(
        float(part) * unit for part, unit in zip(parts, UNITS.values(), strict=True) if part
    )
    if seconds <= 0:
        raise _no_duration(text)
    return seconds


def _no_duration(text: str) -> SftbenchError:
    return SftbenchError(
        f"{text!r} is no length of time",
        where="--budget",
        remedy="Write 90s, 10m or 1h30m.",
    )


def duration_text(seconds: float) -> str:
    """Return seconds as people say it: "45 s", "9.5 min", "1.2 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Variants:
    """What is asked besides base and tuned model.

    Attributes:
        restored: number of restored variants.
        noise: random changes of the fine-tune's size; with any, the base is asked again too.
        candidates: restores that are tried on the validation facts, one of which joins the others
            on the scored ones.
    """

    restored: int = 0
    noise: int = 0
    candidates: int = 0

    @property
    def models(self) -> int:
        """All models that are asked, the base twice where there is noise."""
        chosen = 1 if self.candidates else 0
        return 2 + self.restored + chosen + self.noise + (1 if self.noise else 0)

    @property
    def asks(self) -> float:
        """How often a fact is asked, over all facts."""
        if not self.candidates:
            return self.models
        validated = VALIDATION_SHARE * (2 + self.candidates)
        return (1 - VALIDATION_SHARE) * self.models + validated

    @property
    def made(self) -> int:
        """Restored variants that are made, each once for every set of facts."""
        return self.restored + (self.candidates + 1 if self.candidates else 0)


@dataclass(frozen=True)
class Speed:
    """What was measured, in seconds.

    Attributes:
        fact: one fact's answer and log-probability, by one model.
        read: reading one model's weights from disk and putting them into the engine.
        scalars: how many of them there are; not seconds.
    """

    fact: float
    read: float
    scalars: int

    def overhead(self, asked: Variants) -> float:
        """Return the seconds that a comparison takes besides asking."""
        models = 4.0  # both models are read for the ranking, and loaded into the engine
        scalar = (
            (SECONDS_PER_RANKED if asked.made else 0.0)
            + SECONDS_PER_RESTORED * asked.made
            + SECONDS_PER_PERTURBED * asked.noise
        )
        return self.read * models + self.scalars * scalar

    def seconds(self, facts: int, asked: Variants) -> float:
        """Return how long a comparison on so many facts should take."""
        return self.overhead(asked) + facts * self.fact * asked.asks

    def facts(self, seconds: float, asked: Variants) -> int:
        """Return how many facts fit into the time, at least `FEWEST_FACTS`."""
        left = seconds * SHARE_USED - self.overhead(asked)
        return max(FEWEST_FACTS, math.floor(left / (self.fact * asked.asks)))


def measure(engine: Engine, path: Path, prompt: Prompt, texts: Sequence[str]) -> Speed:
    """Measure an engine that holds the model of a folder; its weights are those again after.

    Args:
        engine: made from `path`.
        path: checkpoint folder.
        prompt: fixes the token budget.
        texts: what facts are asked with; `PROBES` of them are asked, after one to warm up.
    """
    _ask(engine, prompt, texts[:1])
    probes = texts[:PROBES]
    began = time.monotonic()
    _ask(engine, prompt, probes)
    asked = time.monotonic()
    weights = Folder(path)
    engine.load(weights)
    return Speed(
        fact=(asked - began) / len(probes),
        read=time.monotonic() - asked,
        scalars=sum(map(math.prod, weights.shapes().values())),
    )


def _ask(engine: Engine, prompt: Prompt, texts: Sequence[str]) -> None:
    engine.greedy(texts, max_new_tokens=prompt.max_new_tokens, stop=prompt.stop)
    engine.logprobs([(text, " a name") for text in texts])


def levelling_size(seconds: float, facts: int, left: float) -> int:
    """Return how many facts can be levelled in the time left, at least `FEWEST_FACTS`.

    Args:
        seconds: what levelling `facts` facts took.
        facts: number of facts measured.
        left: seconds that levelling may take.
    """
    return max(FEWEST_FACTS, math.floor(left * SHARE_USED * facts / seconds))
