"""Sampling spread over processes: several transformers engines on one CPU, one thread each."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sftbench.engines.protocol import Completion, Draws, Sampling
from sftbench.engines.sampling import batches

QUEUED = 2
"""Batches that wait for each process: enough that none is idle, few enough that little is lost."""

_engine: Any = None
"""The engine of a worker process."""


class SamplingPool:
    """Draws what one `TransformersEngine` on a CPU would draw, several batches at a time.

    Small models do not fill two threads of one process; two processes of one thread each took
    half the time. A draw depends on its seed alone, and rows of a batch do not see each other,
    so that the completions are those of one engine up to what `batch_size` may change anyway.

    Args:
        path: checkpoint folder.
        processes: how many; each holds the model.
        dtype: as for `TransformersEngine`.
        sample_rows: completions in one batch of a process.
    """

    def __init__(
        self, path: Path, *, processes: int, dtype: str = "float32", sample_rows: int = 420
    ) -> None:
        self._rows = sample_rows
        self._processes = processes
        self._executor = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(path, dtype, sample_rows),
        )
        self._described = dict(self._executor.submit(_describe).result())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown(wait=error is None, cancel_futures=True)

    def describe(self) -> Mapping[str, str]:
        """Return what decides the numbers, and how many processes draw."""
        return {**self._described, "processes": str(self._processes)}

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        """Yield, in order, the completions of each draw (see `Engine.sample`)."""
        waiting: deque[Future[list[list[Completion]]]] = deque()
        for batch in batches(draws, self._rows):
            waiting.append(self._executor.submit(_sample, batch, how))
            if len(waiting) >= QUEUED * self._processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _start(path: Path, dtype: str, sample_rows: int) -> None:
    import torch

    from sftbench.engines.transformers import TransformersEngine

    global _engine  # a worker process holds one engine, made when it starts
    torch.set_num_threads(1)
    _engine = TransformersEngine(path, dtype=dtype, sample_rows=sample_rows, device="cpu")


def _describe() -> Mapping[str, str]:
    described: Mapping[str, str] = _engine.describe()
    return described


def _sample(batch: list[Draws], how: Sampling) -> list[list[Completion]]:
    return list(_engine.sample(batch, how))
