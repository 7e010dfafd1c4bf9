"""Out of memory: halve the batch and go on; one prompt that does not fit is a clear error."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from sftbench.common.errors import SftbenchError

Batch = TypeVar("Batch")
Result = TypeVar("Result")

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


class Room:
    """How many rows fit into memory at once, learnt from failures.

    Attributes:
        rows: the most rows in one batch; halved whenever a batch does not fit.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._learnt = False

    def run(
        self,
        batches: Iterable[Batch],
        work: Callable[[Batch], Result],
        *,
        size: Callable[[Batch], int],
        halves: Callable[[Batch], tuple[Batch, Batch] | None],
    ) -> Iterator[tuple[Batch, Result]]:
        """Yield each batch with what `work` made of it, in order; halve those that do not fit.

        Args:
            batches: what to do.
            work: does one batch; may run out of memory.
            size: rows of a batch.
            halves: a batch in two, or None where that cannot be.

        Raises:
            SftbenchError: a batch that cannot be halved does not fit.
        """
        todo = deque(batches)
        while todo:
            batch = todo.popleft()
            parts = halves(batch) if self._learnt and size(batch) > self.rows else None
            if parts is not None:
                todo.extendleft(reversed(parts))
                continue
            done, result = _attempt(work, batch)
            if done is not None:
                yield done, result  # type: ignore[misc]  # None only where `done` is
                continue
            if halves(batch) is None:
                raise SftbenchError(
                    "the model runs out of memory on a single prompt",
                    remedy="Use --dtype bfloat16, a machine with more memory, or --engine vllm "
                    "with tensor_parallel_size for a model that is larger than one GPU.",
                )
            self.rows, self._learnt = max(1, size(batch) // 2), True
            todo.appendleft(batch)


def _attempt(
    work: Callable[[Batch], Result], batch: Batch
) -> tuple[Batch, Result] | tuple[None, None]:
    """Return the batch and its result, or nothing if it does not fit.

    The error is let go before memory is freed: it holds the tensors of the frames it came from.
    """
    try:
        return batch, work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    free()
    return None, None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or a CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error).lower() for words in WORDS)


def free() -> None:
    """Give back what nobody holds any more."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
