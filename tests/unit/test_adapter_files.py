"""Adapters as files: what one is, what is refused, what names it, which base it is for."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

from sftbench.checkpoints.adapters import (
    Adapter,
    adapter_digest,
    is_adapter,
    open_adapter,
    require_base,
)
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.merging import merged
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

SETTINGS = {
    "peft_type": "LORA",
    "r": 8,
    "target_modules": ["q_proj", "v_proj"],
    "base_model_name_or_path": "org/base",
    "revision": None,
    "inference_mode": True,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))


def make_adapter(path, *, value=1.0, **changes):
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps({**SETTINGS, **changes}))
    save_file({"lora": torch.full((2,), value)}, path / "adapter_model.safetensors")
    return path


def make_model(path, value=1.0):
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "tokenizer.json").write_text("{}")
    save_file({"model.layers.0.w": torch.full((4,), value)}, path / "model.safetensors")
    return path


@pytest.fixture
def adapter(tmp_path):
    return make_adapter(tmp_path / "adapter")


def refused(path):
    with pytest.raises(SftbenchError) as error:
        open_adapter(path)
    return str(error.value)


def test_what_is_an_adapter(adapter, tmp_path):
    assert is_adapter(adapter)
    (adapter / "config.json").write_text("{}")  # some trainers leave the base's beside it
    assert is_adapter(adapter)
    (adapter / "model.safetensors").write_bytes(b"")
    assert not is_adapter(adapter)
    assert not is_adapter(make_model(tmp_path / "model"))


def test_what_it_says_of_itself(adapter):
    opened = open_adapter(adapter)
    assert (opened.kind, opened.base_ref, opened.revision) == ("LORA", "org/base", None)
    assert opened.words == "an adapter (LORA, rank 8) for org/base"
    bare = Adapter(adapter, {"peft_type": "IA3", "base_model_name_or_path": 7})
    assert bare.words == "an adapter (IA3) for a base that it does not name"


@pytest.mark.parametrize("pickled", ["adapter_model.bin", "adapter_model.pt"])
def test_a_pickled_adapter(adapter, pickled):
    (adapter / "adapter_model.safetensors").rename(adapter / pickled)
    assert refused(adapter) == (
        f"{adapter}/{pickled}: the adapter is pickled, and reading a pickle can run any code\n"
        "Load it where you trust it and save it again with peft's save_pretrained, which writes "
        "safetensors."
    )


def test_a_pickle_beside_the_safetensors_is_not_read(adapter):
    (adapter / "adapter_model.bin").write_bytes(b"\x80\x04")
    assert open_adapter(adapter).kind == "LORA"


def test_missing_and_truncated_weights(adapter):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-2])
    assert refused(adapter).startswith(f"{file}: is truncated: its tensors end at byte")
    file.unlink()
    assert refused(adapter).startswith(
        f"{adapter}: the adapter has no weights: there is no adapter_model.safetensors\n"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "does not say which kind of adapter it is (peft_type)"),
        ("{}", "does not say which kind of adapter it is (peft_type)"),
        ('{"peft_type": 3}', "does not say which kind of adapter it is (peft_type)"),
        (json.dumps({**SETTINGS, "auto_map": {"x": "y.Z"}}), "asks for code from elsewhere (auto_"),
        (
            json.dumps({**SETTINGS, "megatron_config": {"a": 1}}),
            "asks for code from elsewhere (meg",
        ),
    ],
)
def test_broken_settings(adapter, content, what):
    (adapter / "adapter_config.json").write_text(content)
    assert refused(adapter).startswith(f"{adapter}/adapter_config.json: {what}")


def test_a_folder_without_an_adapter(tmp_path):
    assert "there is no adapter_config.json, so this is no adapter" in refused(tmp_path)


class TestDigest:
    @pytest.mark.parametrize(
        "change",
        [
            {"base_model_name_or_path": "/elsewhere", "inference_mode": False, "revision": "v1"},
            {"peft_version": "9.9"},
            {"target_modules": ["v_proj", "q_proj"]},
            {"use_dora": False, "rank_pattern": {}},
        ],
    )
    def test_what_does_not_decide_the_answers_does_not_count(self, adapter, tmp_path, change):
        assert adapter_digest(make_adapter(tmp_path / "b", **change)) == adapter_digest(adapter)

    @pytest.mark.parametrize(
        "change",
        [
            {"r": 4},
            {"target_modules": ["q_proj"]},
            {"use_dora": True},
            {"layer_replication": [[0, 2], [1, 3]]},
            {"value": 2.0},
            {"value": 0},
        ],
    )
    def test_what_does_counts(self, adapter, tmp_path, change):
        assert adapter_digest(make_adapter(tmp_path / "b", **change)) != adapter_digest(adapter)

    def test_the_order_of_replicated_layers_counts(self, tmp_path):
        one = make_adapter(tmp_path / "one", layer_replication=[[0, 2], [1, 3]])
        two = make_adapter(tmp_path / "two", layer_replication=[[1, 3], [0, 2]])
        assert adapter_digest(one) != adapter_digest(two)


class TestBases:
    def hub_folder(self, tmp_path, repo):
        name = f"models--{repo.replace('/', '--')}"
        return make_model(tmp_path / "hub" / name / "snapshots" / ("a" * 40))

    @pytest.mark.parametrize(
        "named",
        [
            None,
            "meta/Some-Model-1B",
            "mirror/some-model-1b",
            "unsloth/Some-Model-1B-bnb-4bit",
            "unsloth/Some-Model-1B-unsloth-bnb-4bit",
            "/data/on/another/machine",
            "just-a-name",
        ],
    )
    def test_what_may_be_the_base_passes(self, tmp_path, named):
        base = self.hub_folder(tmp_path, "meta/Some-Model-1B")
        adapter = make_adapter(tmp_path / "a", base_model_name_or_path=named)
        require_base(open_adapter(adapter), base)

    def test_another_model_of_the_hub(self, tmp_path):
        base = self.hub_folder(tmp_path, "meta/Some-Model-1B-Instruct")
        adapter = make_adapter(tmp_path / "a", base_model_name_or_path="meta/Some-Model-1B")
        with pytest.raises(SftbenchError) as error:
            merged(adapter, base)
        assert str(error.value) == (
            f"{adapter}/adapter_config.json: the adapter was trained on meta/Some-Model-1B, not on "
            f"meta/Some-Model-1B-Instruct@{'a' * 40}\n"
            "Name meta/Some-Model-1B as the base. If it is the same model under another name, "
            "change base_model_name_or_path in a copy of the adapter."
        )

    def test_a_folder_is_known_by_its_tensors(self, tmp_path):
        base, copy = make_model(tmp_path / "base"), make_model(tmp_path / "copy")
        other = make_model(tmp_path / "other", 2.0)
        adapter = open_adapter(make_adapter(tmp_path / "a", base_model_name_or_path=str(base)))
        require_base(adapter, base)
        require_base(adapter, copy)
        with pytest.raises(SftbenchError) as error:
            require_base(adapter, other)
        assert error.value.what == (
            f"the adapter was trained on {base}, whose weights are not those of {other}"
        )
        assert checkpoint_digest(base) != checkpoint_digest(other)


def test_without_peft(adapter, tmp_path, monkeypatch):
    base = make_model(tmp_path / "base")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "peft" else find(name, *a)
    )
    with pytest.raises(SftbenchError) as error:
        merged(adapter, base)
    assert str(error.value) == (
        f"{adapter}: merging an adapter needs the package peft, which is not installed\n"
        'Install it with `pip install "sftbench[peft]"`.'
    )
    assert not (tmp_path / "cache" / "merged").exists()


def test_an_adapter_is_no_base(adapter, tmp_path):
    other = make_adapter(tmp_path / "other")
    with pytest.raises(SftbenchError, match="is an adapter, not a full checkpoint"):
        merged(adapter, other)
