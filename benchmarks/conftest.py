"""What benchmarks share: one core, turns with a reference, and the models that they use."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.references import WORKLOADS, Reference, ratio_of
from benchmarks.saved_runs import OURS, Machine, name_of, surroundings, this_machine

SECONDS, FEWEST, MOST = 20.0, 11, 101
"""A benchmark has as many rounds as fit into so many seconds; at least and at most so many."""
PARAMETERS = 0.02e9
MOVED = 0.1
"""How far the lab's tuned model is from its base, in standard deviations of each tensor."""

Measure = Callable[..., None]


MACHINE = pytest.StashKey[Machine]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a caller name the benchmarks that it wants; pytest's own -k would take parts of names."""
    parser.addoption("--only", action="append", default=[], help="name of a benchmark; repeatable")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not named, where something was."""
    only = config.getoption("only")
    if only:
        items[:] = [item for item in items if name_of(item.name) in only]


def pytest_configure(config: pytest.Config) -> None:
    """Let everything run on one core, before a library counts them; nothing asks the network.

    Threads that wait for each other, on cores that others use too, made the same restore take one
    to three times as long, which no reference shows. What more cores bring is measured elsewhere.
    """
    config.stash[MACHINE] = this_machine()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1")
    os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Say beside the figures where they come from."""
    output_json[OURS] = surroundings(config.stash[MACHINE], WORKLOADS)


@pytest.fixture(scope="session", autouse=True)
def scratch() -> Iterator[Path]:
    """Return a folder that goes afterwards; digests of models that go with it are kept there."""
    with tempfile.TemporaryDirectory(prefix="sftbench-bench-") as folder:
        os.environ["SFTBENCH_CACHE"] = str(Path(folder) / "cache")
        yield Path(folder)


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Measure:
    """Return what times some work in turns with a reference, and keeps their ratio.

    It takes the reference, the work, and what to prepare before each round, which is not timed.
    """

    def run(
        reference: Reference,
        work: Callable[[], object],
        *,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        references: list[float] = []

        def before() -> None:
            prepare()
            references.append(reference.seconds())

        benchmark.pedantic(work, setup=before, rounds=_rounds(reference, work, prepare))
        references.append(reference.seconds())
        benchmark.extra_info.update(
            what=str(request.function.__doc__).partition("\n")[0].rstrip("."),
            reference=reference.name,
            reference_seconds=references,
            **ratio_of(benchmark.stats.stats.data, references)._asdict(),
        )

    return run


def _rounds(reference: Reference, work: Callable[[], object], prepare: Callable[[], object]) -> int:
    """Return how many rounds there is time for, by the second one; the first fills caches."""
    for _ in range(2):
        began = time.perf_counter()
        prepare()
        work()
        reference.work()
        took = time.perf_counter() - began
    return min(max(round(SECONDS / took), FEWEST), MOST)


@pytest.fixture(scope="session")
def llama_pair(scratch: Path) -> tuple[Path, Path]:
    """Return base and tuned folder of a generated pair in Llama layout, in bfloat16."""
    from benchmarks.llama_pairs import shape_of, write_pair

    folder = scratch / "llama"
    write_pair(folder, shape_of(PARAMETERS))
    return folder / "base", folder / "tuned"


@pytest.fixture(scope="session")
def lab_pair(scratch: Path) -> tuple[Path, Path]:
    """Return the folder of the lab's model, and one of the same model with every tensor moved."""
    import torch

    from sftbench.checkpoints.reference import resolve
    from sftbench.checkpoints.weights import read_tensors
    from sftbench.checkpoints.writer import write_checkpoint

    base, tuned = resolve("lab"), scratch / "lab" / "tuned"
    drawn = torch.Generator().manual_seed(0)
    moved = {
        name: (one + MOVED * one.std() * torch.randn(one.shape, generator=drawn)).to(one.dtype)
        for name, one in read_tensors(base).items()
    }
    write_checkpoint(tuned, moved, like=base)
    return base, tuned
