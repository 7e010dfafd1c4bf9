"""Base and tuned model laid side by side, tensor by tensor, without reading either in."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sftbench.checkpoints.adapter_source import adapter_over
from sftbench.checkpoints.adapters import is_adapter
from sftbench.checkpoints.regions import in_region
from sftbench.checkpoints.source import (
    FLOATS,
    FolderSource,
    Source,
    Tensors,
    as_floats,
    as_tensor,
    cast,
    pieces,
)
from sftbench.checkpoints.update import (
    HEAD,
    embedding_name,
    is_tied,
    pair_notes,
    shared_names,
)
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from numpy.typing import NDArray

PIECE = 1 << 24
"""Scalars that one thread works on at a time: 64 MiB as float32."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Piece:
    """Consecutive scalars of one tensor, in both models.

    Attributes:
        name: the tensor.
        start: flat index of the first.
        base: those of the base, as the kernels read them.
        tuned: those of the tuned model, likewise.
        written: those of the base as the tuned model's dtype holds them, likewise.
    """

    name: str
    start: int
    base: NDArray[Any]
    tuned: NDArray[Any]
    written: NDArray[Any]

    @property
    def stop(self) -> int:
        """The flat index after the last."""
        return self.start + len(self.base)

    def part(self, start: int, stop: int) -> Piece:
        """Return the part between two flat indices of the tensor."""
        here = slice(start - self.start, stop - self.start)
        return Piece(self.name, start, self.base[here], self.tuned[here], self.written[here])


class Pair:
    """Two models whose tensors fit together.

    Args:
        base: the base.
        tuned: the tuned model.

    Attributes:
        base: the base.
        tuned: the tuned model.
        names: tensors that both have, sorted; where one ties its output head, without that.

    Raises:
        SftbenchError: names or shapes differ in more than the size of the vocabulary or a head
            that one side ties.
    """

    def __init__(self, base: Source, tuned: Source) -> None:
        self.base, self.tuned = base, tuned
        self.before, self.after = Tensors(base), Tensors(tuned)
        self.names = tuple(shared_names(self.before, self.after, where=(base.path, tuned.path)))

    @classmethod
    def open(cls, base: Path, tuned: Path) -> Pair:
        """Lay two folders side by side.

        Args:
            base: a checkpoint.
            tuned: a checkpoint, or an adapter, which is then merged tensor by tensor.

        Raises:
            SftbenchError: a weight file is broken, the models do not fit together, or the adapter
                is not of the kind that is merged tensor by tensor.
        """
        after = adapter_over(tuned, base) if is_adapter(tuned) else FolderSource(tuned)
        return cls(FolderSource(base), after)

    @cached_property
    def head_follows(self) -> bool:
        """Whether the tuned model stores an output head that is its embedding."""
        return HEAD in self.after and embedding_name(self.after) is not None and is_tied(self.after)

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know of two models that are not built alike, a sentence each."""
        return pair_notes(self.before, self.after)

    def region(self, region: str) -> tuple[str, ...]:
        """Return the tensors of a region that the tuned model stores of its own, sorted.

        Raises:
            SftbenchError: there are none, or one of them is no float tensor.
        """
        names = [name for name in self.names if in_region(name, region) and self.size(name)]
        if HEAD in self.after and HEAD not in self.names and in_region(HEAD, region):
            names = sorted([*names, HEAD])  # the base ties it: its embedding is what it had
        if self.head_follows:
            names = [name for name in names if name != HEAD]
        if not names:
            raise self._no_region(region)
        for name in names:
            for source in (self.base, self.tuned):
                self._require_floats(source, self._base_name(name) if source is self.base else name)
        return tuple(names)

    def outside(self) -> list[str]:
        """Return all tensors that decide what the tuned model computes, sorted."""
        own = [*self.names, *([HEAD] if HEAD in self.after and HEAD not in self.names else [])]
        return sorted(name for name in own if not (name == HEAD and self.head_follows))

    def is_float(self, name: str) -> bool:
        """Return whether a tensor is of floats in both models."""
        return all(dtype in FLOATS for dtype in self.dtypes(name))

    def is_whole(self, name: str) -> bool:
        """Return whether a tensor has the same shape in both models."""
        return self.base.shapes[self._base_name(name)] == self.tuned.shapes[name]

    def is_equal(self, name: str) -> bool:
        """Return whether the tuned model has the base's tensor, as its own dtype holds it."""
        if not self.is_whole(name):
            return False
        dtype = self.tuned.dtype(name)
        for _, start, stop in self.spans((name,), PIECE):
            p = as_tensor(self.written(name, start, stop), dtype, (stop - start,))
            s = as_tensor(self.tuned.span(name, start, stop), dtype, (stop - start,))
            if not bool((p == s).all()):
                return False
        return True

    def _no_region(self, region: str) -> SftbenchError:
        if region == "blocks":
            return SftbenchError(
                'no tensor has "layers" in its name, so there is nothing to rank',
                where=self.base.path,
                remedy="The paper's region is for models whose blocks are called layers; name "
                "another, such as all or match=REGEX.",
            )
        return SftbenchError(
            f"no tensor is in the region {region}",
            where=self.base.path,
            remedy="`match=REGEX` selects tensors by their names.",
        )

    def _require_floats(self, source: Source, name: str) -> None:
        if source.dtype(name) not in FLOATS:
            raise SftbenchError(
                f"the tensor {name} holds {source.dtype(name)}, not floats",
                where=source.path,
                remedy="Restore works on models that are not quantised.",
            )

    def _base_name(self, name: str) -> str:
        if name == HEAD and name not in self.before:
            return embedding_name(self.before) or name
        return name

    def size(self, name: str) -> int:
        """Return how many scalars both models have: of a resized vocabulary the common rows."""
        before, after = self.base.shapes[self._base_name(name)], self.tuned.shapes[name]
        return min(math.prod(before), math.prod(after))

    def spans(self, names: Sequence[str], most: int) -> Iterator[tuple[str, int, int]]:
        """Yield (name, start, stop) of what a thread works on at a time, in order."""
        for name in names:
            for start, stop in pieces(self.size(name), most):
                yield name, start, stop

    def piece(self, name: str, start: int, stop: int) -> Piece:
        """Return scalars of one tensor, between two flat indices, in both models."""
        forms = self.dtypes(name)
        before = self.base.span(self._base_name(name), start, stop)
        base = as_floats(before, forms[0])
        tuned = as_floats(self.tuned.span(name, start, stop), forms[1])
        if forms[0] == forms[1] or forms[1] in ("F32", "F64"):
            written = base  # nothing is lost in a wider form
        else:
            written = as_floats(cast(before, *forms), forms[1])
        return Piece(name, start, base, tuned, written)

    def dtypes(self, name: str) -> tuple[str, str]:
        """Return a tensor's dtypes in base and tuned model, as safetensors writes them."""
        return self.base.dtype(self._base_name(name)), self.tuned.dtype(name)

    def tensors(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a tensor of the base and of the tuned model where they lie, whole."""
        return self.before[self._base_name(name)], self.after[name]

    def written(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return scalars of the base in the tuned model's stored dtype."""
        before, after = self.dtypes(name)
        return cast(self.base.span(self._base_name(name), start, stop), before, after)

    def sweep(
        self, names: Sequence[str], work: Callable[[Piece], _Result], most: int | None = None
    ) -> Iterator[tuple[Piece, _Result]]:
        """Yield each piece of these tensors with what `work` made of it, in order.

        Several pieces are worked on at once; which thread takes which does not show.

        Args:
            names: the tensors.
            work: called in a thread.
            most: scalars of a piece; `PIECE` unless said otherwise.
        """
        workers = threads()
        with ThreadPoolExecutor(workers) as pool:
            running: deque[Future[tuple[Piece, _Result]]] = deque()
            for span in self.spans(names, most or PIECE):
                running.append(pool.submit(self._work_on, span, work))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def _work_on(
        self, span: tuple[str, int, int], work: Callable[[Piece], _Result]
    ) -> tuple[Piece, _Result]:
        piece = self.piece(*span)
        return piece, work(piece)


def threads() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
