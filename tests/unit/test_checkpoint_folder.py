"""Checkpoint folders: what is refused and with which words, writing and reading."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from sftbench.checkpoints.folder import (
    open_checkpoint,
    read_tensors,
    require_finite,
    tensor_headers,
)
from sftbench.checkpoints.writer import RECORD, write_checkpoint
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 12,
    "tie_word_embeddings": True,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))


def small_tensors():
    torch.manual_seed(0)
    shapes = {
        "model.embed_tokens.weight": (12, 8),
        "model.norm.weight": (8,),
        "model.layers.0.input_layernorm.weight": (8,),
        "model.layers.0.post_attention_layernorm.weight": (8,),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.self_attn.k_proj.weight": (4, 8),
        "model.layers.0.self_attn.v_proj.weight": (4, 8),
        "model.layers.0.self_attn.o_proj.weight": (8, 8),
        "model.layers.0.mlp.gate_proj.weight": (16, 8),
        "model.layers.0.mlp.up_proj.weight": (16, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 16),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}, "merges": []}}')
    (path / "tokenizer_config.json").write_text("{}")
    save_file(small_tensors(), path / "model.safetensors", metadata={"format": "pt"})
    return path


def shard(path, tensors):
    """Put the weights of a folder into two shards with an index."""
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {name: files[i % 2] for i, name in enumerate(names)}
    for file in files:
        save_file({n: tensors[n] for n in names if weight_map[n] == file}, path / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def refused(path):
    """Return the text of the error that opening a folder raises."""
    with pytest.raises(SftbenchError) as error:
        open_checkpoint(path)
    return str(error.value)


def test_a_valid_folder_opens(folder):
    checkpoint = open_checkpoint(folder)
    assert checkpoint.path == folder
    assert checkpoint.config == CONFIG
    assert len(checkpoint.digest) == 32


def test_headers_say_what_the_files_hold(folder):
    headers = tensor_headers(folder)
    assert list(headers) == sorted(small_tensors())
    header = headers["model.layers.0.mlp.down_proj.weight"]
    assert (header.dtype, header.shape) == ("F32", (8, 16))
    assert header.shard == folder / "model.safetensors"
    raw = header.shard.read_bytes()[header.start : header.stop]
    stored = torch.frombuffer(bytearray(raw), dtype=torch.float32).view(8, 16)
    assert torch.equal(stored, small_tensors()["model.layers.0.mlp.down_proj.weight"])


@pytest.mark.parametrize("sharded", [False, True])
def test_tensors_are_read_as_written(folder, sharded):
    if sharded:
        shard(folder, small_tensors())
    read = read_tensors(folder)
    assert list(read) == sorted(small_tensors())
    assert all(torch.equal(read[name], tensor) for name, tensor in small_tensors().items())


def test_missing_folder(tmp_path):
    assert refused(tmp_path / "nowhere") == (
        f"{tmp_path}/nowhere: there is no such checkpoint folder\n"
        "Name a local folder, or one of the names that `sftbench model` knows."
    )


def test_missing_config(folder):
    (folder / "config.json").unlink()
    assert refused(folder) == (
        f"{folder}: there is no config.json, so this is no Hugging Face checkpoint\n"
        "Name the folder that holds config.json and the .safetensors files."
    )


def test_broken_config(folder):
    (folder / "config.json").write_text("{")
    assert refused(folder).startswith(f"{folder}/config.json: cannot be read as JSON (")
    (folder / "config.json").write_text("[]")
    assert refused(folder) == f"{folder}/config.json: is not a JSON object"


def test_adapter(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    assert refused(folder) == (
        f"{folder}: is an adapter, not a full checkpoint\n"
        "An adapter can be the tuned model, and is merged into its base by itself; for all else, "
        "`sftbench model ADAPTER` merges it and prints the folder to name."
    )


def test_an_adapter_beside_a_full_checkpoint(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert refused(folder) == (
        f"{folder}: holds a full checkpoint and an adapter (adapter_config.json), and "
        "transformers would read the one and apply the other\n"
        "Move the adapter's files into a folder of their own."
    )


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_remote_code(folder, file):
    (folder / file).write_text(json.dumps({**CONFIG, "auto_map": {"AutoConfig": "x.C"}}))
    assert refused(folder) == (
        f"{folder}/{file}: asks for code that comes with the checkpoint (auto_map), which is "
        "never run\nUse a model that transformers has built in; if it has this one, remove "
        "auto_map from the file."
    )


def test_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refused(folder) == (
        f"{folder}/pytorch_model.bin: the weights are pickled, and reading a pickle can run any "
        "code\nConvert them to safetensors: load the model where you trust it and call "
        "save_pretrained."
    )


def test_pickled_weights_beside_safetensors_are_ignored(folder):
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert open_checkpoint(folder).path == folder


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert refused(folder) == (
        f"{folder}: there are no weights: neither model.safetensors nor "
        "model.safetensors.index.json\nName the folder of a full Hugging Face checkpoint."
    )


def test_missing_shard(folder):
    shard(folder, small_tensors())
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refused(folder) == (
        f"{folder}/model.safetensors.index.json: names the shard "
        "model-00002-of-00002.safetensors, which is missing\n"
        f"Copy or download model-00002-of-00002.safetensors into {folder}."
    )


def test_tensor_missing_from_its_shard(folder):
    shard(folder, small_tensors())
    file = folder / "model-00002-of-00002.safetensors"
    tensors = small_tensors()
    missing, *others = sorted(tensors)[1::2]
    save_file({name: tensors[name] for name in others}, file)
    assert refused(folder) == (
        f"{file}: the tensor {missing} is missing, which model.safetensors.index.json says is "
        "here\nCopy or download the file again."
    )


def test_index_without_a_map(folder):
    shard(folder, small_tensors())
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "model.safetensors.index.json: has no weight_map\n" in refused(folder)


def test_truncated_weights(folder):
    file = folder / "model.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size - 100)
    assert refused(folder) == (
        f"{file}: is truncated: its tensors end at byte {size:,}, the file at {size - 100:,}\n"
        "Copy or download the file again."
    )


@pytest.mark.parametrize("kept", range(0, 1200, 61))
def test_truncation_anywhere_is_one_error(folder, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert f"{file}: is truncated" in refused(folder)


def with_header(header, content=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + content


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x80\x02}q\x00.........", "it does not begin with the length of a header"),
        (with_header(b"not json"), "its header cannot be read"),
        (with_header(b"[1]"), "its header cannot be read"),
        (with_header({"a": {"dtype": "F32"}}), "its header cannot be read"),
        (
            with_header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"x" * 8),
            "its header contradicts itself about the tensor a",
        ),
        (
            with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"x" * 12),
            "its header contradicts itself about the tensor a",
        ),
    ],
)
def test_what_is_no_safetensors_file(folder, raw, why):
    file = folder / "model.safetensors"
    file.write_bytes(raw)
    assert refused(folder) == (
        f"{file}: is truncated or not a safetensors file: {why}\nCopy or download the file again."
    )


def test_bytes_after_the_last_tensor(folder):
    file = folder / "model.safetensors"
    size = file.stat().st_size
    with file.open("ab") as stream:
        stream.write(b"more")
    assert f"its tensors end at byte {size:,}, the file at {size + 4:,}" in refused(folder)


def test_missing_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    assert refused(folder) == (
        f"{folder}: there is no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json, "
        "merges.txt, vocab.txt, spiece.model\n"
        "Copy the tokenizer files of the base model into the folder."
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_finite(bad, dtype):
    tensor = torch.zeros(3, 2, dtype=dtype)
    tensor[1, 1] = bad
    with pytest.raises(SftbenchError) as error:
        require_finite({"a": torch.ones(2), "b": tensor, "n": torch.ones(2).int()}, "x.safetensors")
    assert error.value.where == "x.safetensors"
    assert error.value.what == "the tensor b holds 1 NaN or infinite scalar"


def test_finite_weights_pass():
    require_finite(small_tensors(), "here")


class TestWriter:
    def test_what_is_written_is_what_was_given(self, folder, tmp_path):
        out = tmp_path / "out"
        tensors = {name: tensor.bfloat16() for name, tensor in small_tensors().items()}
        write_checkpoint(out, tensors, like=folder, record={"variant": "tuned"})
        read = read_tensors(out)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
        assert open_checkpoint(out).config == {**CONFIG, "dtype": "bfloat16"}
        assert json.loads((out / RECORD).read_text()) == {"variant": "tuned"}

    def test_only_what_describes_the_model_is_copied(self, folder, tmp_path):
        for stale in ("pytorch_model.bin", "sftbench_recipe.json", RECORD, "optimizer.pt"):
            (folder / stale).write_text("{}")
        (folder / "generation_config.json").write_text("{}")
        (folder / "chat_template.jinja").write_text("{{ x }}")
        write_checkpoint(tmp_path / "out", small_tensors(), like=folder)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "chat_template.jinja",
        }

    def test_shards_hold_the_same_model(self, folder, tmp_path):
        write_checkpoint(tmp_path / "out", small_tensors(), like=folder, shard_bytes=1000)
        assert not (tmp_path / "out" / "model.safetensors").exists()
        assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 1
        assert open_checkpoint(tmp_path / "out").digest == open_checkpoint(folder).digest

    def test_an_old_dtype_key_is_replaced(self, folder, tmp_path):
        old = {key: value for key, value in CONFIG.items() if key != "dtype"}
        (folder / "config.json").write_text(json.dumps({**old, "torch_dtype": "float16"}))
        write_checkpoint(tmp_path / "out", small_tensors(), like=folder)
        assert open_checkpoint(tmp_path / "out").config == CONFIG

    def test_an_output_that_is_not_free_is_left_alone(self, folder, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "mine").write_text("mine")
        with pytest.raises(SftbenchError, match="already exists"):
            write_checkpoint(out, small_tensors(), like=folder)
        assert [path.name for path in out.iterdir()] == ["mine"]

    def test_a_failure_leaves_nothing(self, folder, tmp_path):
        (folder / "config.json").unlink()
        before = set(tmp_path.iterdir())
        with pytest.raises(SftbenchError, match="there is no such file"):
            write_checkpoint(tmp_path / "out", small_tensors(), like=folder)
        assert set(tmp_path.iterdir()) == before

    def test_transformers_reads_it_and_ties_the_head(self, folder, tmp_path):
        from transformers import AutoModelForCausalLM

        write_checkpoint(tmp_path / "out", small_tensors(), like=folder, shard_bytes=1000)
        model, info = AutoModelForCausalLM.from_pretrained(
            tmp_path / "out", output_loading_info=True
        )
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert model.dtype == torch.float32
        assert model.lm_head.weight is model.model.embed_tokens.weight
        state = model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in small_tensors().items())
