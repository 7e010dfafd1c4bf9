"""Edges of a restore: dtypes of little range, sizes of nothing, ties wherever pieces end, names."""

import math

import pytest
import torch
from two_models import bits, in_pieces, pair_of, restored

from sftbench.checkpoints.criteria import gavish_donoho, truncate
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.regions import in_region
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.rules import parse_rule
from sftbench.cli.rule_options import all_rules
from sftbench.common.errors import SftbenchError

NAME = "model.layers.0.mlp.up_proj.weight"


def two(dtype=torch.float32, seed=0, shape=(60, 50)):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator)
    tuned = base + 0.01 * torch.randn(shape, generator=generator)
    return {NAME: base.to(dtype)}, {NAME: tuned.to(dtype)}


@pytest.mark.parametrize("criterion", ["relative", "absolute"])
def test_the_norm_of_a_ranking_in_bf16_is_that_of_the_models(criterion):
    """Rounded to bf16, most of this update is 0 or far too large."""
    base, tuned = two()
    ((planned, result),) = restored(pair_of(base, tuned), f"{criterion},20%norm,bf16")
    update = (tuned[NAME] - base[NAME]).double()
    removed = (tuned[NAME] - result[NAME]).double()
    share = float(removed.norm() / update.norm())
    assert share == pytest.approx(0.2, abs=0.01)
    assert planned.report.l2_removed == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("rule", ["relative,50%", "interpolation,50%", "random,1%"])
def test_what_the_tuned_dtype_cannot_hold_is_an_error_and_never_infinite(rule):
    base, tuned = two()
    base[NAME][3, 4] = 1e5  # float16 ends at 65,504
    half = {NAME: tuned[NAME].half()}
    half[NAME][3, 4] = 6e4
    with pytest.raises(SftbenchError, match=r"up_proj.*beyond the range of F16"):
        restored(pair_of(base, half), rule.replace("50", "99.9"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("criterion", ["interpolation", "spectral", "noise", "dare", "relative"])
def test_nothing_of_anything_is_the_tuned_model_to_the_bit(criterion, dtype):
    base, tuned = two(dtype)
    tuned[NAME][0, :3] = torch.tensor([-0.0, 0.0, -0.0], dtype=dtype)
    ((planned, result),) = restored(pair_of(base, tuned), f"{criterion},0%")
    assert bits(result[NAME]) == bits(tuned[NAME])
    assert planned.report.equals_tuned


@pytest.mark.parametrize("columns", [8, 9])
def test_the_median_of_singular_values_is_that_of_statistics(columns):
    """Of an even number the mean of the two in the middle."""
    sizes = torch.tensor([9.0, 8, 5, 4, 2, 1.5, 1, 0.5, 0.25][:columns])
    generator = torch.Generator().manual_seed(1)
    left = torch.linalg.qr(torch.randn(20, columns, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=generator))[0]
    delta = (left * sizes) @ right
    made = truncate(torch.zeros(20, columns), delta, parse_rule("spectral"), 0)
    ordered = sorted(sizes.tolist())
    middle = (ordered[(columns - 1) // 2] + ordered[columns // 2]) / 2
    kept = sum(size > gavish_donoho(20, columns) * middle for size in ordered)
    assert int(torch.linalg.matrix_rank(made, atol=1e-4)) == kept
    assert 0 < kept < columns


@pytest.mark.parametrize("rules", [("relative,30%", "absolute,7%"), ("lowest-relative,41%norm",)])
def test_a_cut_through_equal_scores_is_recorded_alike_whatever_the_pieces(rules):
    base = {NAME: torch.ones(40, 50), NAME.replace(".0.", ".1."): torch.ones(10, 50)}
    tuned = {name: tensor + 0.5 for name, tensor in base.items()}
    pair = pair_of(base, tuned)
    chosen = [parse_rule(rule) for rule in rules]
    records = []
    for scalars in (1, 7, 50, 600, 1000, 1 << 20):
        with in_pieces(scalars):
            records.append([one.record() for one in plan(pair, chosen)])
    assert all(record == records[0] for record in records)


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("model.decoder.layers.0.fc1.weight", "mlp"),
        ("model.decoder.layers.11.fc2.bias", "mlp"),
        ("model.decoder.layers.0.self_attn.q_proj.weight", "attention"),
        ("gpt_neox.layers.0.attention.query_key_value.weight", "attention"),
        ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", "mlp"),
        ("model.layers.0.block_sparse_moe.experts.0.w1.weight", "mlp"),
        ("model.layers.0.block_sparse_moe.gate.weight", "mlp"),
        ("model.layers.0.mlp.experts.3.down_proj.weight", "mlp"),
    ],
)
def test_modules_of_several_families_are_found(name, region):
    other = {"mlp": "attention", "attention": "mlp"}[region]
    assert in_region(name, region)
    assert in_region(name, "blocks")
    assert not in_region(name, other)


def test_a_model_whose_blocks_have_another_name_is_an_error_that_says_what_to_do():
    base = {"transformer.h.0.attn.c_attn.weight": torch.ones(4, 4)}
    tuned = {name: tensor + 1 for name, tensor in base.items()}
    with pytest.raises(SftbenchError, match=r'(?s)"layers" in its name.*match=REGEX'):
        plan(pair_of(base, tuned), [parse_rule("relative,5%")])
    (planned,) = plan(pair_of(base, tuned), [parse_rule(r"relative,50%,match=\.h\.\d+\.")])
    assert planned.report.count == 8


def test_fp64_is_ranked_as_fp32_and_written_as_it_is():
    base, tuned = two(torch.float64)
    pair = pair_of(base, tuned)
    (planned,) = plan(pair, [parse_rule("relative,20%")])
    result = dict(RestoredWeights(pair, planned).items())[NAME]
    p, s = base[NAME].float(), tuned[NAME].float()
    score = ((s - p).abs() / (p.abs() + 1e-8)).reshape(-1)
    top = torch.topk(score, math.floor(score.numel() * 0.2)).indices
    expected = tuned[NAME].reshape(-1).clone()
    expected[top] = base[NAME].reshape(-1)[top]
    assert result.dtype == torch.float64
    assert torch.equal(result.reshape(-1), expected)


@pytest.mark.parametrize(
    "given",
    [{"criteria": "absolute"}, {"region": "mlp"}, {"per_tensor": True}, {"arithmetic": "bf16"}],
)
def test_an_option_that_would_do_nothing_is_an_error(given):
    with pytest.raises(SftbenchError, match="does nothing without a size"):
        all_rules(["relative,5%"], None, **given)
    assert len(all_rules(["relative,5%"], "5,20", **given)) == 3
