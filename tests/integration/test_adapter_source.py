"""An adapter merged tensor by tensor: to the bit what peft merges, planned and restored alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from lab_adapters import LAB, lora, save_adapter
from safetensors.torch import load_file, save_file
from two_models import bits

from sftbench.checkpoints import adapter_source as module
from sftbench.checkpoints.adapter_source import adapter_source, source_of
from sftbench.checkpoints.adapters import open_adapter
from sftbench.checkpoints.digest import checkpoint_digest, source_digest
from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.lazy import weights_of
from sftbench.checkpoints.merging import merged
from sftbench.checkpoints.pair import find_pair
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.peft_merge import write_merged
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.restored_folders import plan_folders, write_restored
from sftbench.checkpoints.rules import parse_rule
from sftbench.checkpoints.source import FolderSource
from sftbench.checkpoints.weights import read_tensors
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.integration

RULES = [parse_rule(text) for text in ("relative,5%", "absolute,20%norm", "interpolation,40%")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))


def by_peft(adapter: Path, out: Path, base: Path = LAB) -> Path:
    """Merge as peft does, whatever the adapter."""
    out.mkdir()
    write_merged(open_adapter(adapter), open_checkpoint(base), out)
    return out


def lab_like(folder: Path, dtype: torch.dtype = torch.bfloat16, **config: object) -> Path:
    """Write the lab model in another dtype, or with other entries in its config.json."""
    shutil.copytree(LAB, folder)
    tensors = {name: tensor.to(dtype) for name, tensor in read_tensors(LAB).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((LAB / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **config}))
    return folder


def for_any_base(adapter: Path, **changes: object) -> Path:
    """Let an adapter say nothing of its base."""
    file = adapter / "adapter_config.json"
    settings = {**json.loads(file.read_text()), "base_model_name_or_path": None, **changes}
    file.write_text(json.dumps(settings))
    return adapter


PLAIN = [
    {},
    {"use_rslora": True, "r": 8},
    {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 32}},
    {"rank_pattern": {r"layers\.1\.self_attn\.q_proj": 3}, "lora_alpha": 5},
    {"target_modules": "all-linear"},
    {"target_modules": r".*\.(k|up)_proj"},
    {"init_lora_weights": "gaussian", "lora_dropout": 0.1},
]


@pytest.mark.parametrize("settings", PLAIN)
def test_tensor_by_tensor_is_to_the_bit_what_peft_merges(tmp_path, settings):
    save_adapter(tmp_path / "adapter", lora(**settings))
    source = adapter_source(tmp_path / "adapter", LAB)
    assert source is not None
    expected = read_tensors(by_peft(tmp_path / "adapter", tmp_path / "peft"))
    assert source.shapes.keys() == expected.keys()
    for name, tensor in expected.items():
        assert bits(source.tensor(name)) == bits(tensor)
    changed = {name for name in source.shapes if name in source.deltas}
    base = read_tensors(LAB)
    assert changed == {n for n in expected if not torch.equal(expected[n], base[n].float())}
    assert source_digest(source) == checkpoint_digest(tmp_path / "peft")


def test_an_adapter_in_half_precision_is_merged_in_fp32(tmp_path):
    save_adapter(tmp_path / "adapter", lora(), dtype=torch.bfloat16)
    source = adapter_source(tmp_path / "adapter", LAB)
    expected = read_tensors(by_peft(tmp_path / "adapter", tmp_path / "peft"))
    assert all(bits(source.tensor(name)) == bits(tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_base_in_another_dtype_likewise(tmp_path, dtype):
    save_adapter(tmp_path / "adapter", lora())
    adapter, base = for_any_base(tmp_path / "adapter"), lab_like(tmp_path / "base", dtype)
    expected = read_tensors(by_peft(adapter, tmp_path / "peft", base))
    source = adapter_source(adapter, base)
    assert all(bits(source.tensor(name)) == bits(tensor) for name, tensor in expected.items())


def test_a_quantised_base_is_refused(tmp_path):
    save_adapter(tmp_path / "adapter", lora())
    base = lab_like(tmp_path / "base", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(SftbenchError, match="the base is quantised"):
        find_pair(str(for_any_base(tmp_path / "adapter")), str(base), merge=False)


def test_square_matrices_that_are_stored_transposed_are_left_to_peft(tmp_path):
    """Their shapes would fit either way, and a file may say nothing of it: peft knows the layer."""
    from peft import get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_inner": 16, "vocab_size": 50}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    model.save_pretrained(tmp_path / "base")
    shutil.copyfile(LAB / "tokenizer.json", tmp_path / "base" / "tokenizer.json")
    config = lora(target_modules=["c_proj"], fan_in_fan_out=True, init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    adapter = for_any_base(tmp_path / "adapter", fan_in_fan_out=False)
    assert adapter_source(adapter, tmp_path / "base") is None
    name = "transformer.h.0.mlp.c_proj"
    down, up = (
        load_file(adapter / "adapter_model.safetensors")[f"base_model.model.{name}.{one}.weight"]
        for one in ("lora_A", "lora_B")
    )
    merged_by_peft = read_tensors(by_peft(adapter, tmp_path / "peft", tmp_path / "base"))
    before = read_tensors(tmp_path / "base")[f"{name}.weight"]
    expected = before + (up @ down).T * (8 / 4)
    torch.testing.assert_close(merged_by_peft[f"{name}.weight"], expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head", "q_proj"]},
        {"layers_to_transform": [1]},
        {"trainable_token_indices": [3]},
    ],
)
def test_what_is_more_than_matrices_is_left_to_peft(tmp_path, settings):
    save_adapter(tmp_path / "adapter", lora(**settings))
    assert adapter_source(tmp_path / "adapter", LAB) is None


def test_a_tensor_that_is_missing_is_left_to_peft_which_says_so(tmp_path):
    save_adapter(tmp_path / "adapter", lora())
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    save_file(kept, file)
    assert adapter_source(tmp_path / "adapter", LAB) is None
    with pytest.raises(SftbenchError, match="not in the adapter"):
        merged(tmp_path / "adapter", LAB)


def test_a_plan_and_a_restore_are_those_of_the_merged_folder(tmp_path):
    save_adapter(tmp_path / "adapter", lora())
    lazily = plan_folders(LAB, tmp_path / "adapter", RULES)
    assert not (tmp_path / "cache" / "merged").exists()
    folder = by_peft(tmp_path / "adapter", tmp_path / "peft")
    expected = plan(Pair.open(LAB, folder), RULES)
    for one, other in zip(lazily.planned, expected, strict=True):
        assert one.record() == other.record()
        assert one.report == other.report
        tensors = dict(RestoredWeights(Pair.open(LAB, folder), other).items())
        for name, tensor in RestoredWeights(lazily.pair, one).items():
            assert bits(tensor) == bits(tensors[name])
    assert lazily.record()["tuned"] == {
        "path": str(tmp_path / "adapter"),
        "digest": checkpoint_digest(folder),
    }
    write_restored(lazily, [tmp_path / str(number) for number in range(len(RULES))])
    assert read_tensors(tmp_path / "0").keys() == tensors.keys()
    config = json.loads((tmp_path / "0" / "config.json").read_text())
    assert config["dtype"] == "float32"


def test_another_process_makes_the_same_variant(tmp_path):
    save_adapter(tmp_path / "adapter", lora())
    source = adapter_source(tmp_path / "adapter", LAB)
    pair = Pair(FolderSource(LAB), source)
    (planned,) = plan(pair, RULES[:1])
    weights = RestoredWeights(pair, planned)
    again = weights_of(json.loads(json.dumps(weights.origin())))
    both = zip(weights.items(), again.items(), strict=True)
    assert all(one[0] == two[0] and bits(one[1]) == bits(two[1]) for one, two in both)
    assert source_of(str(LAB)).path == LAB


def test_few_merged_tensors_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", 100_000)
    save_adapter(tmp_path / "adapter", lora())
    source = adapter_source(tmp_path / "adapter", LAB)
    made = []
    merge = source._merged
    monkeypatch.setattr(source, "_merged", lambda name: made.append(name) or merge(name))
    for name in source.shapes:
        for start in range(0, 1000, 100):
            source.span(name, start, start + 100)
        assert len(source._kept) <= module.KEPT_ALWAYS or source._size() <= 100_000
    assert sorted(made) == sorted(source.deltas)


def test_the_merged_folder_is_written_without_the_model_in_memory(tmp_path, monkeypatch):
    """As it was by peft, in all but the file's layout."""
    save_adapter(tmp_path / "adapter", lora())
    expected = read_tensors(by_peft(tmp_path / "adapter", tmp_path / "peft"))
    monkeypatch.setattr("sftbench.checkpoints.peft_merge.write_merged", None)
    folder = merged(tmp_path / "adapter", LAB)
    found = read_tensors(folder)
    assert {n: bits(t) for n, t in found.items()} == {n: bits(t) for n, t in expected.items()}
    written, peft = (
        json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / "peft")
    )
    assert {**peft, **written} == {**written, **peft}
