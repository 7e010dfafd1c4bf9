"""The model in and out: a base read for training, its trained weights written like the base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sftbench.checkpoints.update import update_norm
from sftbench.checkpoints.weights import read_tensors, require_finite
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.common.errors import SftbenchError
from sftbench.recipes.recipe import Recipe
from sftbench.recipes.record import UpdateNorm


def load_for_training(base: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the base in float32, whatever it is stored in, and its tokenizer.

    Raises:
        SftbenchError: a weight is NaN or infinite, or transformers renames tensors on reading,
            so that the tuned model could not be laid beside the base.
    """
    stored = read_tensors(base)
    require_finite(stored, base)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, local_files_only=True
    )
    renamed = [names[0] for names in _tied_groups(model) if not stored.keys() & set(names)]
    if renamed:
        raise SftbenchError(
            f"transformers gives {len(renamed)} tensor(s) other names than the files do "
            f"(first: {renamed[0]}), so base and tuned could not be compared",
            where=base,
            remedy="Such models cannot be tuned here yet. If the folder is an old one, loading "
            "it in transformers and save_pretrained may write today's names.",
        )
    return model, tokenizer


def _tied_groups(model: PreTrainedModel) -> list[list[str]]:
    """Return the names of the model's tensors, those that share their memory together."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.state_dict().items():
        groups.setdefault(tensor.data_ptr(), []).append(name)
    return list(groups.values())


def write_trained(folder: Path, model: PreTrainedModel, base: Path, recipe: Recipe) -> UpdateNorm:
    """Write the weights in `recipe.save_dtype`; return how far what is written is from the base.

    Names, configuration and tokenizer files are the base's. A tied output head that the base
    leaves out stays out; tensors that the model has no place for stay as they are.

    Raises:
        SftbenchError: a trained weight is NaN or infinite.
    """
    dtype: torch.dtype = getattr(torch, recipe.save_dtype)
    before = read_tensors(base)
    state = model.state_dict()
    trained = {name: state[name].detach().cpu() for name in before if name in state}
    after = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in {**before, **trained}.items()
    }
    require_finite(after, "the tuned model")
    write_checkpoint(folder, after, like=base)
    distance = update_norm(before, after)
    return UpdateNorm(absolute=distance, relative=distance / _norm(before))


def _norm(tensors: Mapping[str, torch.Tensor]) -> float:
    """Return the L2 norm of all scalars: the update from nothing."""
    nothing = {name: tensor.new_zeros(()).expand_as(tensor) for name, tensor in tensors.items()}
    return update_norm(nothing, tensors)
