"""Progress that a person can read: rate and time left, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS_BETWEEN_LINES = 30.0
"""How often a log gets a line, where there is no terminal to draw a bar on."""


class Step(Protocol):
    """Called as items are finished; `note` is what else to show, such as the loss."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Count `steps` more items as finished."""
        ...


@contextmanager
def progress(description: str, total: int, *, unit: str = "items", done: int = 0) -> Iterator[Step]:
    """Show progress on standard error while the block runs; yield what advances it.

    A bar on a terminal; elsewhere, as in a CI log, a plain line now and then.

    Args:
        description: what is done.
        total: items in all.
        unit: what an item is called.
        done: items that an earlier run finished: they count, but not in the rate.
    """
    if not sys.stderr.isatty():
        yield _Lines(description, total, unit, done)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=done, rate="", note="")

        def advance(steps: int, note: str = "") -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, advance=steps, rate=rate_of(speed or 0.0), note=note)

        yield advance


class _Lines:
    """Progress in a log: the first step, one line every half minute, and the last."""

    def __init__(self, description: str, total: int, unit: str, done: int = 0) -> None:
        self._what = description
        self._total = total
        self._unit = unit
        self._before = self._done = done
        self._began = time.monotonic()
        self._said = -SECONDS_BETWEEN_LINES

    def __call__(self, steps: int, note: str = "") -> None:
        self._done += steps
        elapsed = time.monotonic() - self._began
        if elapsed - self._said < SECONDS_BETWEEN_LINES and self._done < self._total:
            return
        # Items that are done in batches come after a while, then all at once.
        first, self._said = self._said < 0 and self._done < self._total, elapsed
        speed = (self._done - self._before) / elapsed if elapsed > 0 else 0.0
        left = (self._total - self._done) / speed if speed else 0.0
        parts = [
            f"{self._what}: {self._done} of {self._total} {self._unit}",
            "" if first else rate_of(speed),
            "" if first or left < 6 else f"{left / 60:.1f} min left",
            note,
        ]
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


def rate_of(speed: float) -> str:
    """Return items per second, or seconds per item where that reads better."""
    if speed <= 0:
        return ""
    return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
