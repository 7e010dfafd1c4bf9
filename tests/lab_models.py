"""The lab model compared with a tuned one: the request, and weights that are damaged on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.folder import open_checkpoint, read_tensors
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.regions import is_ranked
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.compare.request import Request
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.mastery.bundled import resolve_card

if TYPE_CHECKING:
    import torch


def damaged(tensors: dict[str, torch.Tensor], size: float) -> dict[str, torch.Tensor]:
    """Return the tensors with noise in every scalar that a restore ranks, and in no other.

    Its standard deviation is `size` times its tensor's own.
    """
    import torch

    generator = torch.Generator().manual_seed(0)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(tensor.shape, generator=generator)
        return drawn * tensor.float().std() * size

    return {
        name: tensor.float() + noise(tensor) if is_ranked(name) else tensor
        for name, tensor in tensors.items()
    }


def write_damaged(folder: Path, size: float) -> Path:
    """Write the lab model with damaged weights."""
    base = resolve("lab")
    write_checkpoint(folder, damaged(read_tensors(base), size), like=base)
    return folder


def lab_request(tuned: Path, out: Path, **more: Any) -> Request:
    """Return the comparison of the lab model with another on its own facts, asked few-shot."""
    base, facts = resolve("lab"), resolve_facts("lab")
    return Request(
        base=base,
        tuned=tuned,
        out=out,
        facts=facts,
        card=resolve_card(None, base_digest=open_checkpoint(base).digest, facts=facts),
        prompt=PROMPTS["fewshot"],
        **more,
    )
