"""An adapter merged tensor by tensor: its values, how often it merges, what it leaves to peft."""

from __future__ import annotations

import json
import math
from collections import Counter
from unittest.mock import patch

import pytest
import torch
from fakes import write_tokenizer
from safetensors.torch import save_file
from two_models import bits, in_pieces

from sftbench.checkpoints import adapter_source as module
from sftbench.checkpoints import merging, restored
from sftbench.checkpoints.adapter_source import adapter_over, adapter_source, source_of
from sftbench.checkpoints.digest import checkpoint_digest, source_digest
from sftbench.checkpoints.lazy import weights_of
from sftbench.checkpoints.merging import can_be_laid_over, laid_over
from sftbench.checkpoints.pair import find_pair
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.perturb import PerturbedWeights
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.restored_folders import plan_folders, write_restored
from sftbench.checkpoints.rules import parse_rule
from sftbench.checkpoints.source import FolderSource
from sftbench.checkpoints.weights import read_tensors
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

SETTINGS = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 3,
    "lora_alpha": 5,
    "target_modules": ["q_proj", "down_proj"],
}
LAYERS = 3
SHAPES = {"self_attn.q_proj": (12, 8), "mlp.down_proj": (8, 20), "mlp.up_proj": (20, 8)}
TARGETS = [
    f"model.layers.{number}.{one}"
    for number in range(LAYERS)
    for one in ("self_attn.q_proj", "mlp.down_proj")
]
RULES = [
    parse_rule(text)
    for text in ("relative,5%", "absolute,20%norm", "random,10%changed,draw=2", "dare,30%")
] + [parse_rule("interpolation,40%"), parse_rule("spectral,20%norm,all")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))


def write_base(folder, dtype=torch.bfloat16, **config):
    torch.manual_seed(0)
    tensors = {
        f"model.layers.{number}.{name}.weight": torch.randn(shape)
        for number in range(LAYERS)
        for name, shape in SHAPES.items()
    }
    tensors["model.norm.weight"] = torch.randn(8)
    tensors["model.embed_tokens.weight"] = torch.randn(16, 8)
    folder.mkdir()
    save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    write_tokenizer(folder)
    return folder


def write_adapter(folder, dtype=torch.float32, ranks=None, **changes):
    torch.manual_seed(1)
    tensors = {}
    for target in TARGETS:
        rows, columns = SHAPES[target.split(".", 3)[3]]
        rank = next((r for end, r in (ranks or {}).items() if target.endswith(end)), 3)
        start = f"base_model.model.{target}"
        tensors[f"{start}.lora_A.weight"] = torch.randn(rank, columns).to(dtype)
        tensors[f"{start}.lora_B.weight"] = torch.randn(rows, rank).to(dtype)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {**SETTINGS, **changes}
    kept = {key: value for key, value in settings.items() if value != "left out"}
    (folder / "adapter_config.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path):
    return write_adapter(tmp_path / "adapter")


def merged_by_hand(base, adapter, scaling):
    """Return what peft computes, W + (B A) * scaling, all of it in fp32."""
    from safetensors.torch import load_file

    found = load_file(adapter / "adapter_model.safetensors")
    tensors = {name: tensor.float() for name, tensor in read_tensors(base).items()}
    for target in TARGETS:
        start = f"base_model.model.{target}"
        down, up = (found[f"{start}.lora_{part}.weight"].float() for part in "AB")
        tensors[f"{target}.weight"] += (up @ down) * scaling(target)
    return tensors


def write_by_hand(folder, base, adapter):
    folder.mkdir()
    save_file(merged_by_hand(base, adapter, lambda _: 5 / 3), folder / "model.safetensors")
    return folder


def merges_of(source):
    """Count from now on how often each tensor of a source is merged."""
    counted: Counter[str] = Counter()
    merge = source._merged

    def merged(name):
        counted[name] += 1
        return merge(name)

    source._merged = merged
    source._kept.clear()
    return counted


class TestValues:
    @pytest.mark.parametrize("of_base", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("of_adapter", [torch.float32, torch.bfloat16])
    def test_every_tensor_in_fp32_to_the_bit(self, tmp_path, of_base, of_adapter):
        base = write_base(tmp_path / "base", of_base)
        adapter = write_adapter(tmp_path / "adapter", of_adapter)
        source = adapter_over(adapter, base)
        expected = merged_by_hand(base, adapter, lambda _: 5 / 3)
        assert list(source.shapes) == sorted(expected)
        for name, tensor in expected.items():
            assert (source.dtype(name), source.shapes[name]) == ("F32", tuple(tensor.shape))
            assert bits(source.tensor(name)) == bits(tensor)
            assert source.span(name, 3, 7).tolist() == tensor.flatten()[3:7].tolist()

    @pytest.mark.parametrize(
        ("changes", "scaling"),
        [
            ({"use_rslora": True}, lambda target: 5 / math.sqrt(3)),
            ({"alpha_pattern": {"q_proj": 7}}, lambda t: 7 / 3 if "q_proj" in t else 5 / 3),
            ({"alpha_pattern": {"^q_proj": 7, "proj": 9}}, lambda t: 5 / 3),
            ({"alpha_pattern": {r".*\.1\..*": 7}}, lambda t: 7 / 3 if ".1." in t else 5 / 3),
            (
                {"rank_pattern": {"q_proj": 2}, "ranks": {"q_proj": 2}},
                lambda t: 5 / 2 if "q_proj" in t else 5 / 3,
            ),
            ({"target_modules": r".*\.(q|down)_proj"}, lambda t: 5 / 3),
            ({"lora_alpha": -2.5}, lambda t: -2.5 / 3),
            ({"fan_in_fan_out": False, "lora_dropout": 0.1, "bias": "none"}, lambda t: 5 / 3),
        ],
    )
    def test_scalings_as_the_settings_say(self, tmp_path, base, changes, scaling):
        adapter = write_adapter(tmp_path / "adapter", **changes)
        source = adapter_over(adapter, base)
        for name, tensor in merged_by_hand(base, adapter, scaling).items():
            assert bits(source.tensor(name)) == bits(tensor)

    def test_its_digest_is_that_of_a_merged_folder(self, tmp_path, base, adapter):
        folder = write_by_hand(tmp_path / "merged", base, adapter)
        assert source_digest(adapter_over(adapter, base)) == checkpoint_digest(folder)

    def test_the_digest_is_computed_once(self, base, adapter):
        first = laid_over(adapter, base).merged.digest
        with patch.object(merging, "source_digest", side_effect=AssertionError):
            assert laid_over(adapter, base).merged.digest == first


class TestRestores:
    @pytest.mark.parametrize("scalars", [7, 1 << 24])
    def test_plan_and_tensors_are_those_of_the_merged_folder(
        self, tmp_path, base, adapter, scalars
    ):
        whole = Pair.open(base, write_by_hand(tmp_path / "merged", base, adapter))
        lazily = Pair.open(base, adapter)
        with in_pieces(scalars, threads=4):
            expected, found = plan(whole, RULES), plan(lazily, RULES)
        for one, other in zip(found, expected, strict=True):
            assert (one.record(), one.report) == (other.record(), other.report)
            tensors = dict(RestoredWeights(whole, other).items())
            for name, tensor in RestoredWeights(lazily, one).items():
                assert bits(tensor) == bits(tensors[name])

    def test_a_folder_is_written_and_no_merged_one(self, tmp_path, base, adapter):
        planning = plan_folders(base, adapter, RULES[:1])
        write_restored(planning, [tmp_path / "out"])
        folder = write_by_hand(tmp_path / "merged", base, adapter)
        pair = Pair.open(base, folder)
        expected = dict(RestoredWeights(pair, plan(pair, RULES[:1])[0]).items())
        assert {n: bits(t) for n, t in read_tensors(tmp_path / "out").items()} == {
            name: bits(tensor) for name, tensor in expected.items()
        }
        record = json.loads((tmp_path / "out" / "sftbench_variant.json").read_text())
        assert record["tuned"] == {"path": str(adapter), "digest": checkpoint_digest(folder)}
        assert not list((tmp_path / "cache").rglob("*.safetensors"))

    def test_another_process_makes_the_same_variants(self, base, adapter):
        pair = Pair.open(base, adapter)
        noise = PerturbedWeights(pair, 1, "digest", "float32")
        for weights in (RestoredWeights(pair, plan(pair, RULES[:1])[0]), noise):
            again = weights_of(json.loads(json.dumps(weights.origin())))
            for (name, one), (other, two) in zip(weights.items(), again.items(), strict=True):
                assert (name, bits(one)) == (other, bits(two))


class TestHowOftenItMerges:
    def test_names_and_shapes_cost_nothing(self, base, adapter):
        source = adapter_over(adapter, base)
        merges = merges_of(source)
        pair = Pair(FolderSource(base), source)
        assert "model.norm.weight" in pair.after
        assert "other" not in pair.after
        assert pair.notes == []
        assert pair.region("all") == tuple(source.shapes)
        assert not merges

    @pytest.mark.parametrize("threads", [2, 16])
    def test_once_in_a_pass_however_many_pieces_are_asked_for(self, base, adapter, threads):
        source = adapter_over(adapter, base)
        pair, merges = Pair(FolderSource(base), source), merges_of(source)
        # So small that the pieces under way are never of three tensors, however slow a thread is.
        with in_pieces(2, threads), patch.object(module, "KEPT_BYTES", 0):
            for _ in pair.sweep(pair.names, lambda piece: None):
                pass
        assert merges == dict.fromkeys(source.deltas, 1)

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
    def test_once_when_a_variant_is_gone_through(self, base, adapter, rule):
        """Two tensors are made at a time; both stay, even where there is room for neither."""
        source = adapter_over(adapter, base)
        pair = Pair(FolderSource(base), source)
        (planned,) = plan(pair, [rule])
        merges = merges_of(source)
        with patch.object(module, "KEPT_BYTES", 0), patch.object(restored, "WRITTEN", 5):
            for _ in RestoredWeights(pair, planned).items():
                pass
        assert merges == dict.fromkeys(source.deltas, 1)

    def test_few_are_held(self, base, adapter):
        source = adapter_over(adapter, base)
        with patch.object(module, "KEPT_BYTES", 1000):
            for name in source.shapes:
                source.flat(name)
                assert len(source._kept) <= module.KEPT_ALWAYS or source._size() <= 1000
        assert 1 < len(source._kept) < len(source.deltas)

    def test_a_failed_merge_is_tried_again(self, base, adapter):
        source = adapter_over(adapter, base)
        name = next(iter(source.deltas))
        with (
            patch.object(source, "_merged", side_effect=MemoryError),
            pytest.raises(MemoryError),
        ):
            source.flat(name)
        assert bits(source.tensor(name)) == bits(adapter_over(adapter, base).tensor(name))


class TestWhatIsLeftToPeft:
    @pytest.mark.parametrize(
        "changes",
        [
            {"peft_type": "LOHA"},
            {"task_type": "SEQ_CLS"},
            {"use_dora": True},
            {"modules_to_save": ["norm"]},
            {"fan_in_fan_out": True},
            {"bias": "all"},
            {"init_lora_weights": "pissa"},
            {"layers_to_transform": [0]},
            {"a_setting_of_the_future": 1},
            {"target_modules": ["q_proj"]},  # more in the file than the settings ask for
            {"target_modules": ["q_proj", "down_proj", "up_proj"]},  # and less
            {"target_modules": "left out"},
            {"target_modules": 3},
            {"target_modules": "("},
            {"r": 4},
            {"r": 3.0},
            {"r": 0, "ranks": dict.fromkeys(("q_proj", "down_proj"), 0)},
            {"lora_alpha": "left out"},  # peft's default, whatever it is by then
            {"lora_alpha": "5"},
            {"lora_alpha": math.nan},
            {"alpha_pattern": {"q_proj": None}},
            {"alpha_pattern": {"(": 2}},
            {"alpha_pattern": ["q_proj"]},
            {"rank_pattern": "q_proj"},
        ],
        ids=str,
    )
    def test_settings(self, tmp_path, base, changes):
        adapter = write_adapter(tmp_path / "adapter", **changes)
        assert adapter_source(adapter, base) is None
        assert not can_be_laid_over(adapter, base)

    @pytest.mark.parametrize(
        "config",
        [{"quantization_config": {"quant_method": "fp8"}}, {"model_type": "gpt2"}],
    )
    def test_bases_that_store_their_matrices_in_another_way(self, tmp_path, adapter, config):
        assert adapter_source(adapter, write_base(tmp_path / "base", **config)) is None

    def test_an_error_says_what_merges_it(self, tmp_path, base):
        adapter = write_adapter(tmp_path / "adapter", use_dora=True)
        origin = {"adapter": str(adapter), "base": str(base)}
        for open_it in (
            lambda: Pair.open(base, adapter),
            lambda: laid_over(adapter, base),
            lambda: source_of(origin),
        ):
            with pytest.raises(SftbenchError) as error:
                open_it()
            assert str(error.value) == (
                f"{adapter}: this adapter cannot be merged tensor by tensor\n"
                "`sftbench model ADAPTER` merges it into a folder, or says why it cannot be."
            )


def test_an_adapter_is_no_base(tmp_path, adapter):
    other = write_adapter(tmp_path / "other")
    with pytest.raises(SftbenchError, match="is an adapter, not a full checkpoint"):
        find_pair(str(adapter), str(other), merge=False)


def test_an_adapter_that_is_not_finite(tmp_path, base):
    adapter = write_adapter(tmp_path / "adapter")
    from safetensors.torch import load_file

    file = adapter / "adapter_model.safetensors"
    tensors = {name: tensor * torch.nan for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    with pytest.raises(SftbenchError, match="NaN or infinite"):
        adapter_source(adapter, base)
