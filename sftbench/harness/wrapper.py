"""`sftbench lm-eval`: lm-eval's own command line, with our tasks and models known to it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from sftbench.checkpoints.weights import INDEX, WEIGHTS, tensor_headers
from sftbench.common.errors import SftbenchError
from sftbench.harness.tasks import tasks_path
from sftbench.harness.variant_args import asked_of

INCLUDE = "--include_path"
CONFIG = ("--config", "-C")
VLLM, VARIANT_VLLM = "vllm", "sftbench-vllm"
PRETRAINED = re.compile(r"""\bpretrained["']?[=:]\s*["']?([^,\s"'}]+)""")
"""The model in lm-eval's ``--model_args``, as ``key=value`` or as JSON."""
MODELS = {
    "sftbench": "sftbench.harness.model:SftbenchLM",
    "sftbench-hf": "sftbench.harness.variant_hf:VariantHF",
    VARIANT_VLLM: "sftbench.harness.variant_vllm:VariantVLLM",
}
"""Our models by name, and where they are; pyproject.toml names them for later lm-evals."""


def arguments(args: Sequence[str]) -> list[str]:
    """Return the arguments with our ``--include_path``, unless one is given already.

    lm-eval takes one such folder on its command line; a user who names another gets that one.
    A list of folders fits into lm-eval's ``--config`` file; one that has the key is left alone.
    """
    given = any(arg == INCLUDE or arg.startswith(f"{INCLUDE}=") for arg in args)
    if not args or given or "include_path" in _config(args):
        return list(args)
    return [*args, INCLUDE, str(tasks_path())]


def _config(args: Sequence[str]) -> Mapping[str, Any]:
    """Return the content of lm-eval's configuration file, if one is named."""
    import yaml

    for flag, value in pairwise(args):
        if flag in CONFIG and Path(value).is_file():
            try:
                content = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError):
                return {}  # lm-eval says what is wrong with it
            return content if isinstance(content, dict) else {}
    return {}


def run(args: Sequence[str]) -> None:
    """Run lm-eval's command line in this process.

    Raises:
        SftbenchError: what our own code finds wrong (a card, a fact table, a truncated weight
            file ...), and what lm-eval does (an unknown task or model, arguments that exclude each
            other).
        SystemExit: usage errors that lm-eval's parser has already explained.
    """
    from lm_eval.__main__ import cli_evaluate

    _require_whole_weights(args)
    model = _model_of(args)
    if model in (VLLM, VARIANT_VLLM):
        _prepare_vllm(ours=model == VARIANT_VLLM)
    _register_models()
    before = sys.argv
    sys.argv = ["lm_eval", *arguments(args)]
    try:
        with _results_named_by_variant():
            cli_evaluate()
    except (OSError, ValueError) as error:
        raise SftbenchError(str(error), where="lm-eval") from error
    finally:
        sys.argv = before


def _require_whole_weights(args: Sequence[str]) -> None:
    """Raise if a weight file of a local model is truncated: lm-eval's models do not name the file.

    Whether pickled weights or a model's own code are allowed is for lm-eval's own options to say.
    """
    for name in PRETRAINED.findall(" ".join(args)):
        folder = Path(name)
        if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
            tensor_headers(folder)


def _model_of(args: Sequence[str]) -> str | None:
    """Return the model that is asked for, on the command line or in a file; None without one."""
    found: Any = _config(args).get("model")
    for flag, value in pairwise([*args, ""]):
        if flag in ("--model", "-M"):
            found = value
        elif flag.startswith("--model="):
            found = flag.removeprefix("--model=")
    return found if isinstance(found, str) else None


def _prepare_vllm(*, ours: bool) -> None:
    """Set vLLM up as our own engine does, and let lm-eval find its CPU distribution.

    Args:
        ours: the engine is ours, which bounds its memory itself.

    Raises:
        SftbenchError: vLLM is not installed, or its installation is broken.
    """
    from sftbench.engines.vllm_start import CPU_CACHE_GIB, import_vllm, on_cpu
    from sftbench.harness.vllm import repair_version

    if on_cpu() and not ours:
        # lm-eval passes on what it is given; without this vLLM takes 92 % of the memory.
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GIB))
    import_vllm()
    repair_version()


def _register_models() -> None:
    """Make our models known to lm-eval, by name: each is imported when it is used."""
    import lm_eval.models  # noqa: F401  # first: lm-eval leaves its own out if it finds any other
    from lm_eval.api.registry import model_registry

    for name, place in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=place)


@contextmanager
def _results_named_by_variant() -> Iterator[None]:
    """Let lm-eval file a variant's results under its name.

    It files them under the model's path; a variant has none, and would get a random name.
    """
    from unittest.mock import patch

    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    named = GeneralConfigTracker._get_model_name

    def name(model_args: Any) -> str | None:
        if isinstance(model_args, Mapping) and "tuned" in model_args:
            return asked_of(model_args).name
        found: str | None = named(model_args)
        return found

    with patch.object(GeneralConfigTracker, "_get_model_name", staticmethod(name)):
        yield
