"""Merging with peft: the adapter laid over its base in fp32, checked, and added to its weights."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from sftbench.checkpoints.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter
from sftbench.checkpoints.folder import Checkpoint
from sftbench.checkpoints.tokenizers import has_tokenizer, highest_token_id
from sftbench.checkpoints.update import HEAD
from sftbench.checkpoints.vocabulary import some
from sftbench.checkpoints.weights import require_finite, tensor_headers
from sftbench.common.digests import software_versions
from sftbench.common.errors import SftbenchError
from sftbench.common.files import write_json

PREFIX = "base_model.model."
"""How the names of an adapter's tensors begin."""
SHARD_SIZE = "5GB"
ANOTHER_BASE = "Name the base that the adapter was trained on."
WHOLE = ("weight", "base_layer.weight")
"""How the name of a whole embedding ends, after that of its module."""


def write_merged(adapter: Adapter, base: Checkpoint, out: Path) -> None:
    """Write weights and config.json of the base with the adapter merged in, in fp32.

    Raises:
        SftbenchError: see `sftbench.checkpoints.merging.merged`.
    """
    disable_progress_bar()
    config = _peft_config(adapter)
    tensors = load_file(adapter.path / ADAPTER_WEIGHTS)
    require_finite(tensors, adapter.path / ADAPTER_WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what matters of them is checked here
        model = _load_base(base)
        tied = bool(model.config.get_text_config().tie_word_embeddings)
        _resize(model, tensors, adapter)
        wrapped = _lay_over(model, config, adapter)
        _untie_head(wrapped)
        model = _merge(wrapped, adapter)
    tied = _tie_again(model, tied=tied)
    model.save_pretrained(out, max_shard_size=SHARD_SIZE)
    _require_names_of(base, out)
    _write_config(model, base, out, tied=tied)


def _peft_config(adapter: Adapter) -> PeftConfig:
    """Return peft's own reading of adapter_config.json, if it is of a kind that merges."""
    file = adapter.path / ADAPTER_CONFIG
    version = software_versions("peft")["peft"]
    if adapter.kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise SftbenchError(
            f"peft {version} knows no adapters of type {adapter.kind}",
            where=file,
            remedy="Update peft.",
        )
    try:
        config = PeftConfig.from_pretrained(str(adapter.path))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise SftbenchError(
            f"peft {version} cannot read these settings ({_first_line(error)})",
            where=file,
            remedy="Save the adapter again with peft's save_pretrained, or update peft.",
        ) from None
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise _cannot_merge(adapter, "it adds to the prompt or to the cache, not to the weights")
    if config.task_type not in (None, "CAUSAL_LM"):
        raise SftbenchError(
            f"the adapter is for the task {config.task_type}, not for a causal language model",
            where=file,
            remedy="Name an adapter that was trained as a language model (CAUSAL_LM).",
        )
    return config


def _cannot_merge(adapter: Adapter, why: str) -> SftbenchError:
    return SftbenchError(
        f"an adapter of type {adapter.kind} cannot be merged into a base: {why}",
        where=adapter.path,
        remedy="Restore and compare work on weights: use an adapter that merges, such as LoRA.",
    )


def _load_base(base: Checkpoint) -> PreTrainedModel:
    if "quantization_config" in base.config:
        raise SftbenchError(
            "the base is quantised, and an adapter is merged into full weights",
            where=base.path / "config.json",
            remedy="Name the same model without quantisation as the base.",
        )
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base.path, dtype=torch.float32, local_files_only=True
    )
    return model.eval()


def _resize(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], adapter: Adapter) -> None:
    """Give the base as many embedding rows as the adapter was trained with.

    The new rows come with the adapter; without them they cannot be known.
    """
    have = len(model.get_input_embeddings().weight)
    wanted, whole = _rows(model, tensors)
    if wanted not in (None, have) and not whole:
        raise SftbenchError(
            f"the adapter was trained with {wanted:,} embedding rows where the base has "
            f"{have:,}, and it does not hold the new ones",
            where=adapter.path / ADAPTER_WEIGHTS,
            remedy=ANOTHER_BASE + " Or save the adapter again with save_embedding_layers=True.",
        )
    highest = highest_token_id(adapter.path) if has_tokenizer(adapter.path) else None
    if highest is not None and highest >= (wanted or have):
        raise SftbenchError(
            f"the adapter's tokenizer gives ids up to {highest:,}, and there are "
            f"{wanted or have:,} embedding rows: those of its new tokens were not saved",
            where=adapter.path,
            remedy="Save the adapter again with save_embedding_layers=True; or, if the new "
            "tokens are never used, remove the tokenizer files from a copy of the adapter.",
        )
    if wanted not in (None, have):
        model.resize_token_embeddings(wanted, mean_resizing=False)


def _rows(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> tuple[int | None, bool]:
    """Return the embedding rows that an adapter's tensors imply, and whether it brings them all."""
    found: dict[str, int] = {}
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        module = next((name for name, one in model.named_modules() if one is layer), None)
        start = f"{PREFIX}{module}."
        ends = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        for end, tensor in ends.items():
            if end in WHOLE or (end == "lora_B.weight" and tensor.ndim == 2):
                found[end] = tensor.shape[0]
            elif end == "lora_embedding_A":
                found[end] = tensor.shape[1]
    return max(found.values(), default=None), any(end in WHOLE for end in found)


def _lay_over(model: PreTrainedModel, config: PeftConfig, adapter: Adapter) -> PeftModel:
    """Return the base with the adapter beside it, every tensor of the adapter in its place."""
    config.inference_mode = True
    try:
        wrapped = PeftModel(model, config)
        result = wrapped.load_adapter(str(adapter.path), "default", torch_device="cpu")
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise SftbenchError(
            f"the adapter does not fit this base ({_reason(error)})",
            where=adapter.path,
            remedy=ANOTHER_BASE,
        ) from None
    for names, what in (
        (result.unexpected_keys, "the base has no place for {} of the adapter's tensors"),
        (result.missing_keys, "{} tensors that its settings ask for are not in the adapter"),
    ):
        if names:
            raise SftbenchError(
                f"{what.format(len(names))}: {some(sorted(names))}",
                where=adapter.path / ADAPTER_WEIGHTS,
                remedy=ANOTHER_BASE,
            )
    return wrapped.eval()


def _untie_head(wrapped: PeftModel) -> None:
    """Give a tied output head a tensor of its own, so that merging one does not change the other.

    Beside the base, an adapter of the embedding leaves the head alone; merged into a tensor that
    both share it would not.
    """
    model = wrapped.get_base_model()
    shared = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    head = model.get_output_embeddings()
    if head is None:
        return
    for module in head.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in shared:
                copy = torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)
                setattr(module, name, copy)


def _merge(wrapped: PeftModel, adapter: Adapter) -> PreTrainedModel:
    try:
        model: PreTrainedModel = wrapped.merge_and_unload(safe_merge=True)
    except (NotImplementedError, AttributeError, RuntimeError, ValueError) as error:
        raise _cannot_merge(adapter, _first_line(error)) from None
    return model


def _tie_again(model: PreTrainedModel, *, tied: bool) -> bool:
    """Tie the head of a base that did so if it still equals the embedding; return whether it is.

    peft marks every model whose head was parted from its embedding as untied.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = tied and (head is None or torch.equal(head.weight, embedding.weight))
    if tied and head is not None:
        head.weight = embedding.weight
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = tied
    return tied


def _require_names_of(base: Checkpoint, out: Path) -> None:
    """Raise unless the tensors have the base's names, but for a head that is stored or not."""
    before, after = tensor_headers(base.path).keys(), tensor_headers(out).keys()
    other = sorted((before ^ after) - {HEAD})
    if other:
        raise SftbenchError(
            f"transformers writes {len(other)} tensors under other names than the base has "
            f"({some(other)}), so that base and merged model could not be compared",
            where=base.path,
            remedy="If the base is an old checkpoint, loading it in transformers and "
            "save_pretrained may write today's names.",
        )


def _write_config(model: PreTrainedModel, base: Checkpoint, out: Path, *, tied: bool) -> None:
    """Write the base's own config.json with what the merge changed, and nothing else."""
    config: dict[str, Any] = json.loads(json.dumps(dict(base.config)))
    text = next((config[k] for k in ("text_config", "llm_config") if k in config), config)
    text["vocab_size"] = len(model.get_input_embeddings().weight)
    if not tied or any("tie_word_embeddings" in part for part in (config, text)):
        config["tie_word_embeddings"] = tied
        text["tie_word_embeddings"] = tied
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (out / "config.json").unlink()
    write_json(out / "config.json", config)


def _reason(error: Exception) -> str:
    """Return the line of a loading error that says most: the first tensor that does not fit."""
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0] if error.args else 'a tensor'}"
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "size mismatch" in line), lines[0] if lines else "")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
