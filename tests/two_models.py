"""Two models as folders of safetensors, and what a rule makes of them: for the tests of restore."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from sftbench.checkpoints import pairing
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.planning import Planned, plan
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.rules import Restored, parse_rule

Tensors = Mapping[str, torch.Tensor]


def pair_of(base: Tensors, tuned: Tensors, folder: Path | None = None) -> Pair:
    """Write both models and lay them side by side; without a folder they go with the pair."""
    place = folder or Path(tempfile.mkdtemp(prefix="sftbench-pair-"))
    for name, tensors in (("base", base), ("tuned", tuned)):
        (place / name).mkdir()
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(whole, place / name / "model.safetensors")
    pair = Pair.open(place / "base", place / "tuned")
    if folder is None:
        weakref.finalize(pair, shutil.rmtree, place)
    return pair


def restored(pair: Pair, *rules: str) -> list[tuple[Planned, dict[str, torch.Tensor]]]:
    """Return for each rule its plan and the tensors that it makes, all planned together."""
    planned = plan(pair, [parse_rule(rule) for rule in rules])
    return [(one, dict(RestoredWeights(pair, one).items())) for one in planned]


@contextmanager
def in_pieces(scalars: int, threads: int = 2) -> Iterator[None]:
    """Let so many threads work on pieces of so many scalars."""
    with (
        patch.object(pairing, "PIECE", scalars),
        patch.object(pairing, "threads", lambda: threads),
    ):
        yield


def bits(tensor: torch.Tensor) -> bytes:
    """Return what a tensor stores: -0.0 is not 0.0."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def relative(*percents: str | float) -> tuple[Restored, ...]:
    """Return the paper's rule at these percentages."""
    return tuple(Restored("relative", Decimal(str(percent))) for percent in percents)
