"""The weights of a model as engines and writers take them: made one tensor at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sftbench.checkpoints.source import FolderSource, tensor_of
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    import torch


class Weights(Protocol):
    """The tensors of one model by checkpoint name; can be gone through again and again."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor, sorted by name; no tensor is made."""
        ...

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and tensor, sorted by name; not to be changed.

        Each stays what it is while later ones are made: a loader may hold a few of them.
        """
        ...

    def origin(self) -> dict[str, Any] | None:
        """Return plain JSON of which `weights_of` makes the same, in another process too.

        None where the tensors exist in this process's memory only.
        """
        ...


@dataclass(frozen=True)
class Held:
    """Tensors that are in memory already."""

    tensors: Mapping[str, torch.Tensor]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor, sorted by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.items()}

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and tensor, sorted by name."""
        for name in sorted(self.tensors):
            yield name, self.tensors[name]

    def origin(self) -> None:
        """Return None: no other process can make them."""


@dataclass(frozen=True)
class Folder:
    """The tensors of a checkpoint folder, where they lie."""

    path: Path

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor, sorted by name; only headers are read."""
        return FolderSource(self.path).shapes

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and tensor, sorted by name, in their stored dtypes."""
        source = FolderSource(self.path)  # unmapped when nobody looks at its tensors any more
        for name in source.shapes:
            yield name, tensor_of(source, name)

    def origin(self) -> dict[str, Any]:
        """Return the folder's absolute path; all machines of a run must see it there."""
        return {"kind": "folder", "path": str(self.path.resolve())}


def _restored(origin: Mapping[str, Any]) -> Weights:
    from sftbench.checkpoints.restored import restored_weights

    return restored_weights(origin)


def _perturbed(origin: Mapping[str, Any]) -> Weights:
    from sftbench.checkpoints.perturb import perturbed_weights

    return perturbed_weights(origin)


KINDS: dict[str, Callable[[Mapping[str, Any]], Weights]] = {
    "folder": lambda origin: Folder(Path(origin["path"])),
    "restored": _restored,
    "perturbed": _perturbed,
}
"""How the weights of each kind of origin are made again."""


def weights_of(origin: Mapping[str, Any]) -> Weights:
    """Return the weights that say of themselves that this is their origin.

    Raises:
        SftbenchError: there is no such kind of origin.
    """
    make = KINDS.get(str(origin.get("kind")))
    if make is None:
        raise SftbenchError(
            f"weights of the kind {origin.get('kind')!r} are not known; known: {', '.join(KINDS)}",
            remedy="Install the same version of sftbench on every machine of the run.",
        )
    return make(origin)


def ahead(
    names: Iterable[str], make: Callable[[str], torch.Tensor], most: int = 2
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and tensor in the order of the names; the next few are made meanwhile.

    Args:
        names: of the tensors.
        make: makes one; called in threads.
        most: tensors that are made, or wait, while the last one is looked at.
    """
    todo = iter(names)
    waiting: deque[tuple[str, Future[torch.Tensor]]] = deque()
    with ThreadPoolExecutor(most) as pool:
        try:
            waiting.extend((name, pool.submit(make, name)) for name in islice(todo, most))
            while waiting:
                name, made = waiting.popleft()
                tensor = made.result()
                del made  # it would hold the tensor as long as this waits
                waiting.extend((name, pool.submit(make, name)) for name in islice(todo, 1))
                yield name, tensor
                del tensor
        finally:
            for _, made in waiting:
                made.cancel()
