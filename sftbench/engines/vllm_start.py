"""Start vLLM: its settings checked by name, its environment, and its failures in plain words."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sftbench.common.errors import SftbenchError
from sftbench.engines.memory import is_out_of_memory
from sftbench.engines.options import FLAG, Value, require_known
from sftbench.engines.settings import INSTALL_VLLM
from sftbench.engines.vllm_worker import EXTENSION

OURS = {
    "model": "name the model with --model, --base or --tuned",
    "tokenizer": "the checkpoint's own is used",
    "dtype": "use --dtype",
    "max_num_seqs": "use --batch-size",
    "worker_extension_cls": "it carries the swap of weights",
    "data_parallel_size": "vLLM's offline engine has none; start several runs instead",
}
"""Fields of vLLM's EngineArgs that are not the user's, and what to do instead."""

CPU_CACHE_GIB = 4
"""Memory for keys and values on a CPU, where vLLM would take 92 % of all there is."""
CPU_LENGTH = 4096
"""Longest text on a CPU unless asked for more: what 4 GiB hold for common models."""


def prepare() -> None:
    """Set vLLM's environment; what the user has set stays.

    It must not report usage to its makers, and says only errors. On a CPU it runs in this
    process and compiles nothing: that starts in 5 s instead of 45 s, makes scheduling
    deterministic, and the first request is spared 20 s of compiling one function.
    """
    wanted = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    if on_cpu():
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        wanted["TORCHDYNAMO_DISABLE"] = "1"
        if os.environ.get("TORCHDYNAMO_DISABLE", "1") == "1":
            import torch._dynamo.config

            torch._dynamo.config.disable = True
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def on_cpu() -> bool:
    """Return whether vLLM will run on the CPU."""
    import torch

    return not (torch.cuda.is_available() or torch.xpu.is_available())


def import_vllm() -> Any:
    """Import vLLM; what it will be unable to import in future is its makers' concern.

    Raises:
        SftbenchError: it is not installed, or its installation is broken.
    """
    import logging

    prepare()
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")
    try:
        import vllm
        import vllm.engine.arg_utils
    except ModuleNotFoundError as error:
        if error.name == "vllm":
            raise SftbenchError("vLLM is not installed", remedy=INSTALL_VLLM) from None
        raise _broken(error) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise _broken(error) from error
    return vllm


def _broken(error: Exception) -> SftbenchError:
    """Return what is wrong with an installation in which vLLM cannot be imported."""
    if "torchvision" in str(error) or "LlamaConfig" in str(error):
        remedy = (
            "Its torchvision does not fit this torch, and text needs none of it: "
            "pip uninstall -y torchvision torchaudio torchcodec"
        )
    else:
        remedy = f"Install it again. {INSTALL_VLLM}"
    return SftbenchError(f"vLLM cannot be imported: {error}", remedy=remedy)


def start(path: Path, *, dtype: str, batch_size: int, options: Mapping[str, Value]) -> Any:
    """Return a live `vllm.LLM` with the model of a folder.

    Args:
        path: checkpoint folder.
        dtype: of weights and arithmetic.
        batch_size: completions that run at once.
        options: further fields of vLLM's EngineArgs.

    Raises:
        SftbenchError: vLLM is not installed, has no such option, or cannot run the model here.
    """
    vllm = import_vllm()
    settings = engine_args(path, dtype=dtype, batch_size=batch_size, options=options)
    try:
        with _plain_llvmlite():
            llm = vllm.LLM(**settings)
        # Some models are refused only when they are asked: ask now.
        one = vllm.SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
        llm.generate([{"prompt_token_ids": [0]}], one, use_tqdm=False)
    except Exception as error:
        raise _start_error(error, path) from error
    return llm


def is_one_process(llm: Any) -> bool:
    """Return whether the only worker of a live `vllm.LLM` lives in this process."""
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    core = getattr(llm.llm_engine.engine_core, "engine_core", None)
    return isinstance(getattr(core, "model_executor", None), UniProcExecutor)


@contextmanager
def _plain_llvmlite() -> Iterator[None]:
    """Let llvmlite's library, if it is imported, answer for a while to names of functions only.

    On a CPU vLLM looks at the `__dict__` of whatever any module holds, and fails on an object that
    makes a function of that name too. numba, which restore is compiled with, imports it.
    """
    ffi = sys.modules.get("llvmlite.binding.ffi")
    kind: Any = type(getattr(ffi, "lib", None))
    answer = vars(kind).get("__getattr__")
    if answer is None:
        yield
        return

    def answer_functions(self: Any, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return answer(self, name)

    kind.__getattr__ = answer_functions
    try:
        yield
    finally:
        kind.__getattr__ = answer


def engine_args(
    path: Path, *, dtype: str, batch_size: int, options: Mapping[str, Value]
) -> dict[str, Any]:
    """Return the arguments for `vllm.LLM`: ours, this machine's defaults, then the user's.

    Raises:
        SftbenchError: an option that vLLM does not have, or that is not the user's to set.
    """
    from dataclasses import fields

    from vllm.engine.arg_utils import EngineArgs

    for name in options:
        if name in OURS:
            raise SftbenchError(f"{name} cannot be set here: {OURS[name]}", where=FLAG)
    require_known(options, {field.name for field in fields(EngineArgs)} - OURS.keys(), "vLLM")
    return {
        "model": str(path),
        "dtype": dtype,
        "max_num_seqs": batch_size,
        "worker_extension_cls": EXTENSION,
        "use_tqdm_on_load": False,
        **(_cpu_defaults(path, options) if on_cpu() else {}),
        **{name: _plain(value) for name, value in options.items()},
    }


def _cpu_defaults(path: Path, options: Mapping[str, Value]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"enforce_eager": True}
    if not os.environ.get("VLLM_CPU_KVCACHE_SPACE") and "gpu_memory_utilization" not in options:
        defaults["kv_cache_memory_bytes"] = CPU_CACHE_GIB * 2**30
    longest = longest_text(path)
    if longest is not None:
        defaults["max_model_len"] = min(longest, CPU_LENGTH)
    return defaults


def longest_text(path: Path) -> int | None:
    """Return the longest text that a checkpoint's configuration allows, in tokens, if it says."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, local_files_only=True)
    longest = getattr(config, "max_position_embeddings", None)
    return int(longest) if longest else None


def _plain(value: Value) -> Any:
    """Return a value as vLLM takes it: JSON text of a list or object becomes that again."""
    import json

    if isinstance(value, str) and value[:1] in ("{", "["):
        return json.loads(value)
    return value


def _start_error(error: Exception, path: Path) -> SftbenchError:
    """Return what a person can do about a failed start."""
    words = str(error)
    low = words.lower()
    if "head_size" in low or "head size" in low or "head_dim" in low:
        return SftbenchError(
            f"vLLM cannot run attention heads of this size here: {_line(words)}",
            where=path,
            remedy="Use --engine hf.",
        )
    if "architecture" in low and "support" in low:
        return SftbenchError(
            f"vLLM does not know this model: {_line(words)}",
            where=path,
            remedy="Use --engine hf.",
        )
    if "max_model_len" in low or "max seq len" in low or "maximum model length" in low:
        return SftbenchError(
            f"vLLM cannot hold texts of this length: {_line(words)}",
            where=path,
            remedy=f"Shorten them: {FLAG} max_model_len=2048",
        )
    if is_out_of_memory(error) or "memory" in low:
        return SftbenchError(
            f"vLLM does not get the memory that it wants: {_line(words)}",
            where=path,
            remedy="On a GPU: free it, or set gpu_memory_utilization, max_model_len or "
            f"tensor_parallel_size with {FLAG}. On a CPU: VLLM_CPU_KVCACHE_SPACE=1 (GiB). "
            "A smaller --batch-size and --dtype bfloat16 help on both.",
        )
    return SftbenchError(
        f"vLLM could not start: {type(error).__name__}: {_line(words)}",
        where=path,
        remedy="VLLM_LOGGING_LEVEL=INFO shows its own words, --debug the traceback. Or use "
        "--engine hf.",
    )


def _line(words: str) -> str:
    """Return an error's first lines, short enough to be read."""
    text = " ".join(words.split())
    return text if len(text) <= 300 else text[:300].rsplit(" ", 1)[0] + " ..."
