"""A base and two models tuned from it, in folders, and how far they moved: to test movement."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from sftbench.analysis.movement import MovementResult, movement_result
from sftbench.checkpoints.movement import movement
from sftbench.checkpoints.pairing import Pair
from sftbench.compare.movement import tensor_record

SHAPES = {
    "model.embed_tokens.weight": (50, 12),
    "model.layers.0.self_attn.q_proj.weight": (12, 12),
    "model.layers.0.mlp.up_proj.weight": (30, 12),
    "model.layers.0.mlp.down_proj.weight": (12, 30),
    "model.layers.0.input_layernorm.weight": (12,),
    "model.layers.1.self_attn.q_proj.weight": (12, 12),
    "model.norm.weight": (12,),
}


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "llama", "tie_word_embeddings": true}')
    return folder


def three_models(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Write a base and two models tuned from it; part of the first one's weights stay."""
    base = weights(0)
    base["model.norm.weight"][:3] = 0
    tuned = {name: tensor + 0.1 * weights(1)[name] for name, tensor in base.items()}
    tuned["model.norm.weight"] = base["model.norm.weight"].clone()
    tuned["model.layers.1.self_attn.q_proj.weight"][:6] = base[
        "model.layers.1.self_attn.q_proj.weight"
    ][:6]
    other = {name: tensor + 0.1 * weights(2)[name] for name, tensor in base.items()}
    return (
        write(tmp_path / "base", base),
        write(tmp_path / "tuned", tuned),
        write(tmp_path / "other", other),
    )


def result_of(base: Path, tuned: Path, other: Path | None = None) -> MovementResult:
    second = None if other is None else Pair.open(base, other)
    found = [tensor_record(one) for one in movement(Pair.open(base, tuned), second)]
    return movement_result(found, None if other is None else other.name)
