"""Pairs of checkpoints in Llama layout, of any size: generated, not trained.

    python benchmarks/llama_pairs.py out/pair --parameters 1e9

Base: N(0, 0.015), norms around 1; tuned: base + N(0, 3e-4); both rounded to bf16. The numbers come
from two pools whose lengths are primes, so a pair of draws comes again only after their product.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import sftbench
from sftbench.checkpoints.weights import INDEX
from sftbench.common.files import atomic_folder, write_json

Side = Literal["base", "tuned"]

BASE_SCALE, CHANGE_SCALE = 0.015, 3e-4
BASE_POOL, CHANGE_POOL = 1_048_573, 786_431  # both prime
SHARDS: Mapping[Side, int] = {"base": 4, "tuned": 3}  # weight files, cut at different tensors
BYTES = 2  # of a bf16

VOCABULARY = 32_000
WIDTHS = (
    (0.1e9, (256, 688, 8, 4)),
    (0.6e9, (1024, 2816, 16, 8)),
    (2.0e9, (2048, 5632, 32, 4)),
    (math.inf, (3072, 8192, 24, 8)),
)
"""Below how many parameters: hidden and feed-forward size, heads, heads of keys and values."""

WEIGHTS = "model-{number:05d}-of-{count:05d}.safetensors"

TOKENIZER = Path(sftbench.__file__).parent / "lab" / "data" / "model"
COPIED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True)
class LlamaShape:
    """The numbers that decide which tensors a Llama has."""

    hidden: int
    feed_forward: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool
    layers: int

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes by checkpoint name, in the order of the model."""
        vocabulary = (self.vocabulary, self.hidden)
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": vocabulary}
        for layer in range(self.layers):
            for name, shape in self._block.items():
                shapes[f"model.layers.{layer}.{name}.weight"] = shape
        shapes["model.norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["lm_head.weight"] = vocabulary
        return shapes

    @property
    def _block(self) -> dict[str, tuple[int, ...]]:
        hidden, narrow = self.hidden, self.hidden // self.heads * self.key_value_heads
        return {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (narrow, hidden),
            "self_attn.v_proj": (narrow, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (self.feed_forward, hidden),
            "mlp.up_proj": (self.feed_forward, hidden),
            "mlp.down_proj": (hidden, self.feed_forward),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }

    @property
    def parameters(self) -> int:
        """How many scalars all tensors have."""
        return sum(math.prod(shape) for shape in self.tensors.values())

    @property
    def ranked(self) -> int:
        """How many scalars a restore ranks: the blocks, without their norms."""
        shapes = self.tensors.items()
        return sum(math.prod(s) for name, s in shapes if "layers" in name and "norm" not in name)

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "head_dim": self.hidden // self.heads,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": 2048,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.key_value_heads,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": self.tied,
            "vocab_size": self.vocabulary,
        }


def shape_of(parameters: float, *, tied: bool = True) -> LlamaShape:
    """Return a realistic shape of about so many parameters: a usual width, layers to fit."""
    widths = next(widths for limit, widths in WIDTHS if parameters < limit)
    none, one = (LlamaShape(*widths, VOCABULARY, tied, layers).parameters for layers in (0, 1))
    layers = max(1, round((parameters - none) / (one - none)))
    return LlamaShape(*widths, VOCABULARY, tied, layers)


class Draws:
    """The scalars of both sides, by where they are in the order of the model."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._base = _normal(generator, BASE_POOL, BASE_SCALE)
        self._change = _normal(generator, CHANGE_POOL, CHANGE_SCALE)

    def scalars(self, side: Side, start: int, count: int, centre: float) -> Iterator[torch.Tensor]:
        """Yield `count` bf16 scalars from place `start` on, in pieces; `centre` is their mean."""
        place = start
        while place < start + count:
            here, there = place % BASE_POOL, place % CHANGE_POOL
            size = min(BASE_POOL - here, CHANGE_POOL - there, start + count - place)
            piece = (self._base[here : here + size] + centre).bfloat16()
            if side == "tuned":
                piece = (piece.float() + self._change[there : there + size]).bfloat16()
            yield piece
            place += size


def _normal(generator: np.random.Generator, count: int, scale: float) -> torch.Tensor:
    return torch.from_numpy(generator.standard_normal(count, dtype=np.float32)) * scale


def write_pair(folder: Path, shape: LlamaShape, *, seed: int = 0) -> None:
    """Write `folder`/base and `folder`/tuned, tensor by tensor; all of it appears, or nothing.

    Raises:
        SftbenchError: `folder` is not free.
    """
    draws, before = Draws(seed), torch.get_num_threads()
    torch.set_num_threads(1)  # one thread for each side
    try:
        with atomic_folder(folder) as staging, ThreadPoolExecutor(len(SHARDS)) as threads:
            jobs = [threads.submit(_write_side, staging, shape, side, draws) for side in SHARDS]
            for job in jobs:
                job.result()
    finally:
        torch.set_num_threads(before)


def _write_side(pair: Path, shape: LlamaShape, side: Side, draws: Draws) -> None:
    folder = pair / side
    folder.mkdir()
    write_json(folder / "config.json", shape.config)
    for name in COPIED:
        shutil.copyfile(TOKENIZER / name, folder / name)
    shards, shapes, places = _shards(shape, SHARDS[side]), shape.tensors, _places(shape)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = WEIGHTS.format(number=number, count=len(shards))
        _write_shard(folder / file, {name: shapes[name] for name in names}, side, draws, places)
        weight_map.update(dict.fromkeys(names, file))
    total = {"total_parameters": shape.parameters, "total_size": BYTES * shape.parameters}
    write_json(folder / INDEX, {"metadata": total, "weight_map": weight_map})


def _places(shape: LlamaShape) -> dict[str, int]:
    """Return where the scalars of each tensor begin, in the order of the model."""
    places, place = {}, 0
    for name, sizes in shape.tensors.items():
        places[name] = place
        place += math.prod(sizes)
    return places


def _shards(shape: LlamaShape, count: int) -> list[list[str]]:
    """Return the names of each weight file: in the order of the model, sorted within a file."""
    places, total = _places(shape), shape.parameters
    files = groupby(places, key=lambda name: places[name] * count // total)
    return [sorted(names) for _, names in files]


def _write_shard(
    file: Path,
    shapes: Mapping[str, tuple[int, ...]],
    side: Side,
    draws: Draws,
    places: Mapping[str, int],
) -> None:
    """Write a safetensors file: length of the header, header, content."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    stop = 0
    for name, sizes in shapes.items():
        start, stop = stop, stop + BYTES * math.prod(sizes)
        header[name] = {"dtype": "BF16", "shape": list(sizes), "data_offsets": [start, stop]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, sizes in shapes.items():
            centre = 1.0 if "norm" in name else 0.0
            for piece in draws.scalars(side, places[name], math.prod(sizes), centre):
                stream.write(piece.view(torch.int16).numpy().data)


def main() -> None:
    """Write a pair and print what it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parameters", type=float, required=True)
    parser.add_argument("--untied", action="store_true", help="with an output head of its own")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shape = shape_of(args.parameters, tied=not args.untied)
    began = time.perf_counter()
    write_pair(args.folder, shape, seed=args.seed)
    found = {"parameters": shape.parameters, "ranked": shape.ranked, "layers": shape.layers}
    print(json.dumps({**found, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
