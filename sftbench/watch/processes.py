"""One process works, all hear what came of it: so that none waits for one that gave up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sftbench.common.errors import SftbenchError

Result = TypeVar("Result")


def on_main(work: Callable[[], Result], *, main: bool, processes: int) -> Result:
    """Return on every process what `work` returned on the main one; all must call this.

    Args:
        work: called on the main process only; what it returns is sent, so it must pickle.
        main: this is the main process (rank 0).
        processes: of the training run; with 1 nothing is sent.

    Raises:
        SftbenchError: the work failed; on the main process its own error, of whatever kind.
    """
    if processes == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    sent: list[Any] = [None, None]
    failed: Exception | None = None
    if main:
        try:
            sent[0] = work()
        except Exception as error:  # the others wait: they must be told of whatever it was
            failed = error
            sent[1] = f"{type(error).__name__}: {error}"
    broadcast_object_list(sent, from_process=0)
    if failed is not None:
        raise failed
    if sent[1] is not None:
        raise SftbenchError(f"the main process failed: {sent[1]}")
    result: Result = sent[0]
    return result
