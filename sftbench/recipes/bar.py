"""The training bar: steps, rate, time left and the loss, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnStep = Callable[[float], None]
"""Called after each step with its loss (nats per counted token)."""


@contextmanager
def training_bar(steps: int) -> Iterator[OnStep]:
    """Show a bar while the block runs; yield what is to be called after each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    console = Console(stderr=True)
    columns = (
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  {task.fields[speed]}  {task.fields[loss]}"),
        TimeLeft(),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
        task = bar.add_task("", total=steps, speed="", loss="")

        def on_step(loss: float) -> None:
            rate = bar.tasks[0].finished_speed or bar.tasks[0].speed
            speed = f"{1 / rate:.2f} s/step" if rate else ""
            bar.update(task, advance=1, speed=speed, loss=f"loss {loss:.3f}")

        yield on_step
