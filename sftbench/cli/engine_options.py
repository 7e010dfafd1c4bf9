"""Options that choose the engine, the same for every command that asks a model."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Engine = Annotated[
    Literal["auto", "hf", "vllm"],
    typer.Option(
        help="Who answers: hf (transformers), vllm, or auto: vllm with a GPU if it is installed."
    ),
]
EngineOptions = Annotated[
    str | None,
    typer.Option(
        "--engine-options",
        help="Further settings of the engine: tensor_parallel_size=2,max_model_len=2048.",
    ),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option(help="Of weights and arithmetic.")
]
