"""Two runs of the benchmarks side by side: which ratios moved by more than noise moves them.

Ratios are compared, not seconds: on a machine that is shared, a neighbour slows the benchmark and
the reference that was timed in turns with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.saved_runs import Machine, Measured, Run
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from rich.table import Table

SHARE = 0.30
"""A ratio that grew by more than this part of itself is a regression."""

Verdict = Literal["slower", "faster", "same", "missing", "new"]


@dataclass(frozen=True)
class Change:
    """One benchmark in two runs.

    Attributes:
        saved: in the run that is held against; None where that lacks it.
        now: in the later run; None where that lacks it.
        share: by which part of itself the ratio may grow.
    """

    saved: Measured | None
    now: Measured | None
    share: float

    @property
    def name(self) -> str:
        """Name of the benchmark."""
        return self._known.name

    @property
    def reference(self) -> str:
        """What it is held against."""
        return self._known.reference

    @property
    def _known(self) -> Measured:
        known = self.now or self.saved
        assert known is not None
        return known

    @property
    def part(self) -> float | None:
        """By which part of itself the ratio grew; None where one of the two lacks it."""
        if self.saved is None or self.now is None:
            return None
        return self.now.ratio / self.saved.ratio - 1

    @property
    def verdict(self) -> Verdict:
        """What that means; "faster" is as far from "same" as "slower" is, as a factor."""
        if self.part is None:
            return "missing" if self.now is None else "new"
        if self.part > self.share:
            return "slower"
        return "faster" if self.part < 1 / (1 + self.share) - 1 else "same"


def require_alike(saved: Run, machine: Machine, workloads: int) -> None:
    """Raise unless ratios of a saved run can be compared with some of this machine.

    Args:
        saved: the run that is held against.
        machine: where the others are, or will be, measured.
        workloads: what they are held against (`references.WORKLOADS`).

    Raises:
        SftbenchError: the saved run is of another machine, or of other reference workloads.
    """
    if saved.machine != machine:
        raise SftbenchError(
            f"the saved run is of another machine ({saved.machine.words}) than this one "
            f"({machine.words}); ratios of one say nothing of the other",
            remedy="Save one of this machine: make bench-save",
        )
    if saved.workloads != workloads:
        raise SftbenchError(
            f"the saved run is held against other reference workloads (number {saved.workloads}, "
            f"now {workloads})",
            remedy="Save a run against these: make bench-save",
        )


def compare(saved: Run, now: Run, share: float = SHARE, *, whole: bool = True) -> list[Change]:
    """Return what became of every benchmark of two runs, in the order of the later one.

    A benchmark that is held against another reference than before is another benchmark.

    Args:
        saved: the run that is held against.
        now: the later run.
        share: by which part of itself a ratio may grow.
        whole: whether all that there is was to be measured; else what was not is left out.

    Raises:
        SftbenchError: see `require_alike`.
    """
    require_alike(saved, now.machine, now.workloads)
    before, after = (
        {(one.name, one.reference): one for one in run.benchmarks} for run in (saved, now)
    )
    names = {**after, **before} if whole else after
    return [Change(before.get(key), after.get(key), share) for key in names]


def with_second_look(run: Run, again: Run) -> Run:
    """Return a run in which what was measured again has the lower of its two ratios.

    A neighbour that comes or goes at the wrong moment moves a ratio once; slower code does twice.
    """
    second = {one.name: one for one in again.benchmarks}
    rows = tuple(
        min(one, second.get(one.name, one), key=lambda measured: measured.ratio)
        for one in run.benchmarks
    )
    return run.model_copy(update={"benchmarks": rows})


def failures(changes: Sequence[Change]) -> list[Change]:
    """Return what is slower, and what was not measured that once was."""
    return [change for change in changes if change.verdict in ("slower", "missing")]


def version_notes(saved: Run, now: Run) -> list[str]:
    """Return which software changed between two runs, for whoever looks for a cause."""
    return [
        f"{name}: {saved.versions.get(name, 'none')} then, {now.versions.get(name, 'none')} now"
        for name in {**saved.versions, **now.versions}
        if saved.versions.get(name) != now.versions.get(name)
    ]


COLOURS = {"slower": "red", "missing": "red", "faster": "green", "new": "cyan", "same": "dim"}


def change_table(changes: Sequence[Change]) -> Table:
    """Return the comparison as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table("benchmark", "reference", title="Times as long as the reference")
    for column in ("saved", "now", "change, %"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for one in changes:
        ratios = ["–" if side is None else f"{side.ratio:#.3g}" for side in (one.saved, one.now)]
        part = "–" if one.part is None else f"{100 * one.part:+.0f}"
        verdict = Text(one.verdict, style=COLOURS[one.verdict])
        table.add_row(one.name, one.reference, *ratios, part, verdict)
    return table
