"""Tensors by family, as a failed swap names them."""

import pytest

from sftbench.engines.families import EVERYTHING, GROUPS, families

pytestmark = pytest.mark.unit

BLOCK = [
    "input_layernorm.weight",
    "mlp.down_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "self_attn.k_proj.weight",
    "self_attn.o_proj.weight",
    "self_attn.q_norm.weight",
    "self_attn.q_proj.bias",
    "self_attn.q_proj.weight",
    "self_attn.v_proj.weight",
]
NAMES = [
    "lm_head.weight",
    "model.embed_tokens.weight",
    "model.norm.weight",
    *(f"model.layers.{layer}.{name}" for layer in range(12) for name in BLOCK),
]


def test_a_model_of_llamas_kind():
    found = families(NAMES)
    assert found["the output head"] == {"lm_head.weight"}
    assert found["the embedding"] == {"model.embed_tokens.weight"}
    assert len(found["the norms"]) == 1 + 2 * 12
    assert found["the attention q projections"] == {
        f"model.layers.{layer}.self_attn.q_proj.{kind}"
        for layer in range(12)
        for kind in ("weight", "bias")
    }
    assert {len(found[f"the mlp {one} projections"]) for one in ("gate", "up", "down")} == {12}


def test_single_families_share_nothing_and_stand_before_groups_and_all():
    found = families(NAMES)
    groups = [
        *(f"the {group} projections" for group in GROUPS),
        "the embedding and the output head",
    ]
    single = [name for name in found if name not in groups and name != EVERYTHING]
    assert list(found) == [*single, *groups, EVERYTHING]
    assert sorted(name for family in single for name in found[family]) == sorted(NAMES)
    assert found[EVERYTHING] == set(NAMES)
    assert len(found["the attention projections"]) == 5 * 12
    assert len(found["the attention q, k and v projections"]) == 4 * 12
    assert len(found["the mlp gate and up projections"]) == 2 * 12
    assert found["the embedding and the output head"] == set(NAMES[:2])


def test_other_kinds_of_models_keep_their_own_words():
    found = families(["transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"])
    assert list(found) == ["all c_attn", "the embedding", EVERYTHING]
