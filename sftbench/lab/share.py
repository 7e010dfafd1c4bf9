"""A training shared by two processes: each reads half of every batch, gradients are added up."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed

from sftbench.common.errors import SftbenchError

PROCESSES = 2
"""Fixed, with one thread each, so that the weights do not depend on a machine's cores: two
threads of one process share the small matrices of the lab badly (0.17 s for a step against
0.10 s)."""
PATIENCE = timedelta(minutes=5)
FAREWELL = 5.0
"""Seconds that a process which broke off has to end."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Share:
    """The part of a batch that one process of a shared training reads."""

    rank: int

    def of(self, batch: Sequence[_Item]) -> Sequence[_Item]:
        """Return this process's part of a batch; empty where there are fewer items than parts."""
        return batch[self.rank :: PROCESSES]

    def add_up(self, model: torch.nn.Module, loss: torch.Tensor) -> float:
        """Replace the gradients by their sum over all processes; return the sum of the losses."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        parts = [
            torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights
        ]
        flat = torch.cat([*(part.flatten() for part in parts), loss.reshape(1)])
        torch.distributed.all_reduce(flat)
        pieces = torch.split(flat[:-1], [weight.numel() for weight in weights])
        for weight, piece in zip(weights, pieces, strict=True):
            weight.grad = piece.view_as(weight)
        return float(flat[-1])


@contextmanager
def shared(work: Callable[..., object], *args: Any) -> Iterator[Share]:
    """Start the other processes, each on ``work(*args, share)``, and yield this one's share.

    The caller does the same work with the share that it gets. All of them end together: if one
    fails, the others stop with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        context = multiprocessing.get_context("spawn")
        others = [
            context.Process(target=_other, args=(rank, meeting, work, args), daemon=True)
            for rank in range(1, PROCESSES)
        ]
        for other in others:
            other.start()
        threads = torch.get_num_threads()
        try:
            _join(0, meeting)
            yield Share(0)
            for other in others:
                other.join()
        except RuntimeError as error:
            for other in others:
                other.join(FAREWELL)
            broken = [other for other in others if other.exitcode]
            if not broken:
                raise
            raise SftbenchError(
                f"one of the processes that train together stopped (exit code "
                f"{broken[0].exitcode})",
                remedy="What it said stands above; too little memory is the usual reason.",
            ) from error
        finally:
            for other in others:
                other.terminate()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            torch.set_num_threads(threads)


def _join(rank: int, meeting: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=PROCESSES,
        timeout=PATIENCE,
    )


def _other(rank: int, meeting: Path, work: Callable[..., object], args: Sequence[Any]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _join(rank, meeting)
    work(*args, Share(rank))
    torch.distributed.destroy_process_group()
