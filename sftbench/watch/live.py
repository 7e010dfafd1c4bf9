"""A model in training, asked without leaving a trace: what can be asked, and as which model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.source import FolderSource, tensor_of
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    import torch

SHARDED_MODULES = frozenset({"FullyShardedDataParallel", "FSDPModule"})
WRAPPERS = frozenset({"base_layer", "original_module"})
"""Parts of a parameter's name that peft puts before the base's own weight."""
PEFT_PREFIX = "base_model.model."


def require_whole(model: torch.nn.Module) -> None:
    """Raise unless this process holds every parameter whole.

    Raises:
        SftbenchError: the model is sharded (FSDP, DeepSpeed ZeRO-3, tensor parallel).
    """
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    # DTensor has a mesh; ZeRO-3 marks its parameters, which are empty outside of a step.
    marks = ("device_mesh", "ds_id")
    parts = any(hasattr(one, mark) for one in model.parameters() for mark in marks)
    if parts or kinds & SHARDED_MODULES:
        raise sharded()


def sharded() -> SftbenchError:
    """Return the error for a model that no process holds whole."""
    return SftbenchError(
        "retention cannot be asked of a model whose parameters are sharded over processes "
        "(FSDP, DeepSpeed ZeRO-3, tensor parallel)",
        where="RetentionCallback",
        remedy="Train data parallel (DDP, ZeRO-1 or 2), or leave the callback out, save "
        "checkpoints and compare them: `sftbench check CHECKPOINT`.",
    )


def require_causal(model: Any) -> None:
    """Raise unless the model answers a prompt token by token, as it stands.

    Raises:
        SftbenchError: not a causal language model of transformers, or a PEFT method that puts
            prompts of its own before every text.
    """
    plain = model.get_base_model() if is_peft(model) else model
    config = getattr(plain, "config", None)
    can = getattr(plain, "can_generate", None)
    if config is None or can is None or not can() or getattr(config, "is_encoder_decoder", False):
        raise SftbenchError(
            f"{type(plain).__name__} is no causal language model of transformers",
            where="RetentionCallback",
            remedy="Retention is asked of models such as AutoModelForCausalLM returns.",
        )
    if is_peft(model) and any(one.is_prompt_learning for one in model.peft_config.values()):
        raise SftbenchError(
            "prompt tuning and prefix tuning put tokens of their own before every text, which "
            "this callback cannot ask with",
            where="RetentionCallback",
            remedy="LoRA and the other methods of peft that change layers can be watched.",
        )


def is_peft(model: Any) -> bool:
    """Return whether a model is wrapped by peft."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


def without_adapters(model: Any) -> AbstractContextManager[Any]:
    """Return a context in which a model answers as what its adapters were put on."""
    return model.disable_adapter() if is_peft(model) else nullcontext()


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Let a model be asked in eval mode; all that training would notice is as before after it.

    That is the mode of every module, which parameters want gradients (peft sets both when
    adapters are turned off and on), and every random generator.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanting = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    generators = _generators(model)
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, wants in wanting:
            if parameter.requires_grad != wants:
                parameter.requires_grad_(wants)
        for put_back, state in generators:
            put_back(state)


def _generators(model: torch.nn.Module) -> list[tuple[Any, Any]]:
    """Return (how to set it, its state) of each random generator that this process may use."""
    import numpy as np
    import torch

    found: list[tuple[Any, Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    device = next(model.parameters()).device
    if device.type != "cpu":
        module = torch.get_device_module(device)
        which = () if device.type == "mps" else (device,)  # there is but one
        state = module.get_rng_state(*which)
        found.append((lambda kept: module.set_rng_state(kept, *which), state))
    return found


def is_base(model: Any, base: Path) -> bool:
    """Return whether a model, its adapters turned off, holds just the weights of a checkpoint.

    Values are compared in the model's own dtype. A quantised base under an adapter is taken to be
    the base: it is what the adapter starts from, and its weights cannot be held against a file.

    Args:
        model: a whole causal language model.
        base: checkpoint folder.
    """
    adapters = frozenset(model.peft_config) if is_peft(model) else frozenset()
    if adapters and getattr(model.get_base_model(), "is_quantized", False):
        return True
    stored = FolderSource(base)
    return all(
        _holds(parameter, names, stored) for parameter, names in _own_parameters(model, adapters)
    )


def _own_parameters(
    model: torch.nn.Module, adapters: frozenset[str]
) -> Iterator[tuple[torch.nn.Parameter, list[str]]]:
    """Yield each parameter that no adapter brought, with the names that a checkpoint may use.

    Tied parameters have several, of which a checkpoint may leave some out.
    """
    names: dict[int, tuple[torch.nn.Parameter, list[str]]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parts = name.removeprefix(PEFT_PREFIX if adapters else "").split(".")
        if adapters.isdisjoint(parts):
            plain = ".".join(part for part in parts if not (adapters and part in WRAPPERS))
            names.setdefault(id(parameter), (parameter, []))[1].append(plain)
    yield from names.values()


def _holds(parameter: torch.nn.Parameter, names: list[str], stored: FolderSource) -> bool:
    name = next((name for name in names if name in stored.shapes), None)
    if name is None or tuple(stored.shapes[name]) != tuple(parameter.shape):
        return False
    return bool(tensor_of(stored, name).to(parameter.device, parameter.dtype).equal(parameter.data))
