"""Regions, layers and kinds of modules, by the names that families of models give to tensors."""

from __future__ import annotations

import pytest

from sftbench.checkpoints.regions import in_region, layer_of, module_of
from sftbench.checkpoints.rules import REGIONS, parse_region

pytestmark = pytest.mark.unit

# Names as transformers writes them, and the regions besides "all" that they belong to.
NAMES = {
    # Llama, Mistral, Qwen, Gemma, OLMo
    "model.embed_tokens.weight": "embeddings",
    "lm_head.weight": "embeddings",
    "lm_head.bias": "embeddings",
    "model.norm.weight": "norms",
    "model.layers.0.self_attn.q_proj.weight": "blocks attention",
    "model.layers.0.self_attn.k_proj.bias": "blocks attention",
    "model.layers.31.self_attn.o_proj.weight": "blocks attention",
    "model.layers.0.self_attn.q_norm.weight": "norms",
    "model.layers.0.mlp.gate_proj.weight": "blocks mlp",
    "model.layers.0.mlp.down_proj.weight": "blocks mlp",
    "model.layers.0.input_layernorm.weight": "norms",
    "model.layers.0.post_attention_layernorm.weight": "norms",
    "model.layers.0.pre_feedforward_layernorm.weight": "norms",
    # mixtures of experts: Mixtral, Qwen, DeepSeek
    "model.layers.0.block_sparse_moe.gate.weight": "blocks mlp",
    "model.layers.0.block_sparse_moe.experts.3.w1.weight": "blocks mlp",
    "model.layers.0.mlp.experts.127.up_proj.weight": "blocks mlp",
    "model.layers.0.mlp.experts.gate_up_proj": "blocks mlp",
    "model.layers.0.mlp.shared_expert_gate.weight": "blocks mlp",
    # GPT-NeoX, Pythia
    "gpt_neox.embed_in.weight": "embeddings",
    "embed_out.weight": "embeddings",
    "gpt_neox.final_layer_norm.weight": "norms",
    "gpt_neox.layers.5.attention.query_key_value.weight": "blocks attention",
    "gpt_neox.layers.5.attention.dense.bias": "blocks attention",
    "gpt_neox.layers.5.mlp.dense_h_to_4h.weight": "blocks mlp",
    "gpt_neox.layers.5.post_attention_layernorm.bias": "norms",
    # GPT-2, whose blocks are not called layers: the paper's region has none of it
    "transformer.wte.weight": "embeddings",
    "wpe.weight": "embeddings",
    "transformer.h.0.attn.c_attn.weight": "",
    "transformer.h.0.ln_1.weight": "",
    # state spaces and others that have blocks of another kind
    "model.layers.0.mamba.in_proj.weight": "blocks",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_regions_of_a_tensor(name):
    found = {region for region in REGIONS if in_region(name, region)}
    assert found == {"all", *NAMES[name].split()}


@pytest.mark.parametrize(
    ("region", "layers"),
    [
        ("layers=0", [0]),
        ("layers=1-3", [1, 2, 3]),
        ("layers=0+10-11", [0, 10, 11]),
        ("layers=3-3", [3]),
        ("layers=0-99999999999999999999", list(range(12))),
        ("layers=12", []),
    ],
)
def test_ranges_of_layers(region, layers):
    region = parse_region(region)
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(12)]
    assert [layer for layer, name in enumerate(names) if in_region(name, region)] == layers
    assert not in_region("model.layers.1.input_layernorm.weight", "layers=1")
    assert not in_region("model.embed_tokens.weight", "layers=0-99")


def test_a_regular_expression_finds_any_part_of_a_name():
    assert in_region("model.layers.0.self_attn.q_proj.weight", "match=(q|k)_proj")
    assert not in_region("model.layers.0.self_attn.v_proj.weight", "match=(q|k)_proj")
    assert in_region("model.layers.0.input_layernorm.weight", "match=norm")
    assert not in_region("model.norm.weight", "match=^norm")


@pytest.mark.parametrize(
    ("name", "layer", "module"),
    [
        ("model.layers.0.mlp.down_proj.weight", 0, "down_proj"),
        ("model.layers.10.self_attn.q_proj.bias", 10, "q_proj.bias"),
        ("model.layers.2.mlp.experts.31.w1.weight", 2, "w1"),
        ("model.layers.2.mlp.experts.gate_up_proj", 2, "gate_up_proj"),
        ("layers.7.w", 7, "w"),
        ("model.embed_tokens.weight", None, "embed_tokens"),
        ("lm_head.weight", None, "lm_head"),
        ("weight", None, "weight"),
        ("model.sublayers.3.w", None, "w"),
    ],
)
def test_layer_and_kind_of_module(name, layer, module):
    assert (layer_of(name), module_of(name)) == (layer, module)
