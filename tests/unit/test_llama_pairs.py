"""The generated pairs of the restore benchmark: true Llama checkpoints, of the size asked for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from sftbench.checkpoints.folder import open_checkpoint, read_tensors, tensor_headers
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "llama_pairs.py"
SPEC = importlib.util.spec_from_file_location("benchmarks_llama_pairs", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
pairs = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pairs)


def tiny(*, tied=True):
    return pairs.LlamaShape(
        hidden=64,
        feed_forward=176,
        layers=11,
        heads=4,
        key_value_heads=2,
        vocabulary=3000,
        tied=tied,
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def shape(request):
    return tiny(tied=request.param)


@pytest.fixture
def pair(tmp_path, shape):
    pairs.write_pair(tmp_path / "pair", shape)
    return tmp_path / "pair"


def test_both_sides_open_as_sharded_checkpoints(pair, shape):
    digests = {open_checkpoint(pair / side).digest for side in pairs.SHARDS}
    assert len(digests) == 2
    headers = {side: tensor_headers(pair / side) for side in pairs.SHARDS}
    for found in headers.values():
        assert {name: header.shape for name, header in found.items()} == shape.tensors
        assert {header.dtype for header in found.values()} == {"BF16"}
    shards = {side: {header.shard.name for header in headers[side].values()} for side in headers}
    assert min(map(len, shards.values())) > 1
    assert len(shards["base"]) != len(shards["tuned"])


def test_transformers_makes_the_same_tensors_of_the_config(pair, shape):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(pair / "tuned")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    made = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if shape.tied:
        assert made.pop("lm_head.weight") == made["model.embed_tokens.weight"]
    assert made == shape.tensors
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters


def test_transformers_loads_every_tensor(pair):
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(pair / "tuned", output_loading_info=True)
    assert not any(info.values())
    state = model.state_dict()
    assert all(torch.equal(state[name], t) for name, t in read_tensors(pair / "tuned").items())


def test_values_are_those_of_a_light_fine_tune(pair):
    base, tuned = (read_tensors(pair / side) for side in pairs.SHARDS)
    matrices = [name for name in base if "norm" not in name]
    p, s = (torch.cat([side[n].flatten() for n in matrices]).float() for side in (base, tuned))
    assert p.std().item() == pytest.approx(0.015, rel=0.02)
    assert (s - p).std().item() == pytest.approx(3e-4, rel=0.05)
    assert 0.02 < (s == p).float().mean().item() < 0.3
    assert abs(p.mean().item()) < 1e-4
    norms = torch.cat([base[name] for name in base if "norm" in name]).float()
    assert norms.mean().item() == pytest.approx(1, abs=0.01)


def test_pools_are_coprime_and_pieces_join_without_a_seam():
    draws = pairs.Draws(0)
    assert pairs.math.gcd(pairs.BASE_POOL, pairs.CHANGE_POOL) == 1
    start, count = pairs.CHANGE_POOL - 5, 300_000
    for side in pairs.SHARDS:
        whole = torch.cat(list(draws.scalars(side, start, count, 0.0)))
        parts = [
            *draws.scalars(side, start, 7, 0.0),
            *draws.scalars(side, start + 7, count - 7, 0.0),
        ]
        assert len(whole) == count
        assert torch.equal(whole, torch.cat(parts))


def test_the_seed_decides_and_a_taken_folder_is_left_alone(tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        pairs.write_pair(tmp_path / name, tiny(), seed=seed)
    one, again, other = (
        [file.read_bytes() for file in sorted((tmp_path / name).rglob("*.safetensors"))]
        for name in ("one", "again", "other")
    )
    assert one == again
    assert one != other
    with pytest.raises(SftbenchError, match="already exists"):
        pairs.write_pair(tmp_path / "one", tiny(), seed=3)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("parameters", [0.02e9, 0.25e9, 1e9, 4e9])
def test_shapes_have_the_parameters_asked_for(parameters, tied):
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = pairs.shape_of(parameters, tied=tied)
    assert shape.tied == tied
    assert shape.hidden % shape.heads == shape.heads % shape.key_value_heads == 0
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**shape.config))
    assert sum(p.numel() for p in model.parameters()) == shape.parameters
    assert shape.parameters == pytest.approx(parameters, rel=0.03)
    assert 0 < shape.ranked < shape.parameters


def test_the_command_writes_a_pair(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pairs, "shape_of", lambda parameters, tied: tiny(tied=tied))
    monkeypatch.setattr(
        sys, "argv", ["pairs", str(tmp_path / "x"), "--parameters", "1", "--untied"]
    )
    pairs.main()
    assert f'"parameters": {tiny(tied=False).parameters}' in capsys.readouterr().out
    assert open_checkpoint(tmp_path / "x" / "base").config["tie_word_embeddings"] is False
