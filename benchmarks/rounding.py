"""What rounding does to the rank of an update: the table of docs/drift.md.

    python benchmarks/rounding.py

A rank-4 update of a matrix of SmolLM2 is merged and saved in fp32 and in bf16, at four sizes.
"""

from __future__ import annotations

import torch
from safetensors import safe_open

from sftbench.checkpoints.movement import ranks_of
from sftbench.checkpoints.smollm2 import smollm2_folder
from sftbench.checkpoints.weights import WEIGHTS

NAME = "model.layers.10.self_attn.q_proj.weight"
RANK = 4


def main() -> None:
    """Print a row for each size of the update."""
    with safe_open(smollm2_folder() / WEIGHTS, "pt") as file:
        base = file.get_tensor(NAME).float()
    generator = torch.Generator().manual_seed(0)
    rows, columns = base.shape
    low = torch.randn(rows, RANK, generator=generator) @ torch.randn(
        RANK, columns, generator=generator
    )
    low /= low.norm()
    for size in (1e-1, 1e-2, 1e-3, 1e-4):
        figures = [f"{100 * size:g} %"]
        for form in (torch.float32, torch.bfloat16):
            update = ((base + size * base.norm() * low).to(form).float() - base).double()
            ranks = ranks_of(update.T @ update)
            figures += [f"{rank:#.3g}".rstrip(".") for rank in (ranks.effective, ranks.stable)]
        figures.append(f"{100 * float((update == 0).double().mean()):.1f} %")
        print(f"| {' | '.join(figures)} |")


if __name__ == "__main__":
    main()
