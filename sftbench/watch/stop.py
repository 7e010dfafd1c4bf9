"""When a training run is watched and when it is stopped: what a user may ask for, and the rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sftbench.common.errors import SftbenchError

FEWEST_PROBES = 20
"""Fewer facts say nothing: with 20 of 20 kept the lower bound is about 84 %."""


@dataclass(frozen=True)
class Schedule:
    """How often and how much is asked, and when training stops.

    Attributes:
        every: optimiser steps between two probes.
        probes: most facts that are asked in a probe, both domains together.
        stop_below: in-domain retention, a fraction, that training stops below; None only watches.
        patience: consecutive probes that must show it.
        batch_size: prompts in one batch.

    Raises:
        SftbenchError: a value that cannot be meant.
    """

    every: int = 50
    probes: int = 200
    stop_below: float | None = None
    patience: int = 1
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _require_count("every", self.every, least=1, remedy="Give the steps between two probes.")
        _require_count(
            "probes",
            self.probes,
            least=FEWEST_PROBES,
            remedy=f"Fewer than {FEWEST_PROBES} facts say nothing; 200 is a good start.",
        )
        _require_count("patience", self.patience, least=1, remedy="1 stops at the first probe.")
        _require_count("batch_size", self.batch_size, least=1, remedy="16 suits most models.")
        if self.stop_below is not None:
            _require_share(self.stop_below)

    def stops(self, highs: Sequence[float]) -> bool:
        """Return whether the last `patience` probes all show retention below `stop_below`.

        A probe shows it where the upper bound of its 95 % interval is below: retention that only
        looks low, as it may by chance on so few facts, does not stop a run. Where retention is
        just `stop_below`, a probe shows it wrongly with a chance of about 2.5 %.

        Args:
            highs: upper bounds of in-domain retention, fractions, of all probes in order.
        """
        if self.stop_below is None or len(highs) < self.patience:
            return False
        return all(high < self.stop_below for high in highs[-self.patience :])


def _require_count(name: str, value: object, *, least: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SftbenchError(
            f"is {value!r}, not a whole number of at least {least}", where=name, remedy=remedy
        )


def _require_share(value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value <= 1):  # type: ignore[operator]  # a number by then
        raise SftbenchError(
            f"is {value!r}, not a share above 0 and up to 1",
            where="stop_below",
            remedy="Write 0.9 to stop once in-domain retention is shown to be below 90 %.",
        )
