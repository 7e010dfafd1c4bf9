"""The paper's restore against a naive oracle, and its report."""

from __future__ import annotations

import json
import math
import struct
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.checkpoints.restore import in_region, rank, relative_change, restored_count
from sftbench.checkpoints.update import update_norm

pytestmark = pytest.mark.unit

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VALUES = (0.0, -0.0, 0.5, -0.5, 1.0, 1.5, -2.0, 1e-8, 3e-7, 0.1, 1.0078125)
OUTSIDE = ("model.embed_tokens.weight", "model.layers.0.input_layernorm.weight")
INSIDE = ("model.layers.0.mlp.up_proj.weight", "model.layers.10.q.weight", "model.layers.2.q.bias")


# --- the oracle: one scalar at a time, written apart from the code -------------------------------


def bf16(value: float) -> float:
    """Round a float32 to bfloat16, nearest, ties to even, by its bits."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", rounded))[0]


def naive_change(p: float, s: float, arithmetic: str) -> float:
    keep = (lambda x: x) if arithmetic == "fp32" else bf16
    f = np.float32
    p, s = keep(f(p)), keep(f(s))
    above = keep(abs(keep(f(s) - f(p))))
    below = keep(f(abs(p)) + f(keep(f(1e-8))))
    return float(keep(f(above) / f(below)))


def naive_order(base, tuned, arithmetic):
    """All scalars of the region, first restored first."""
    scalars = []
    for name in base:
        if "layers" in name and "norm" not in name:
            pairs = zip(base[name].flatten().tolist(), tuned[name].flatten().tolist(), strict=True)
            for index, (p, s) in enumerate(pairs):
                scalars.append((-naive_change(p, s, arithmetic), name, index))
    return sorted(scalars)


def naive_restore(base, tuned, percent, arithmetic):
    order = naive_order(base, tuned, arithmetic)
    chosen = order[: len(order) * percent.numerator // (100 * percent.denominator)]
    result = {name: tensor.clone() for name, tensor in tuned.items()}
    for _, name, index in chosen:
        result[name].view(-1)[index] = base[name].flatten()[index].to(tuned[name].dtype)
    return result, chosen


@st.composite
def models(draw):
    """Two small models with many ties, zeros and unchanged scalars."""
    base_dtype, tuned_dtype = (draw(st.sampled_from(list(DTYPES.values()))) for _ in range(2))
    base, tuned = {}, {}
    for name in draw(st.permutations([*INSIDE, *OUTSIDE])):
        shape = draw(st.sampled_from([(1,), (3,), (2, 2), (2, 3)]))
        size = math.prod(shape)
        p = draw(st.lists(st.sampled_from(VALUES), min_size=size, max_size=size))
        s = draw(st.lists(st.sampled_from((None, *VALUES)), min_size=size, max_size=size))
        s = [old if new is None else new for old, new in zip(p, s, strict=True)]
        base[name] = torch.tensor(p).view(shape).to(base_dtype)
        tuned[name] = torch.tensor(s).view(shape).to(tuned_dtype)
    return base, tuned


percents = st.sampled_from(["0", "100", "12.5", "33.333333"]).map(Decimal) | st.decimals(
    0, 100, places=3
)


# --- what is restored ---------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(models(), percents, st.sampled_from(["fp32", "bf16"]))
def test_restores_what_the_naive_oracle_restores(pair, percent, arithmetic):
    base, tuned = pair
    kept = {name: tensor.clone() for name, tensor in tuned.items()}
    result, report = rank(base, tuned, arithmetic).apply(percent)
    expected, chosen = naive_restore(base, tuned, Fraction(percent), arithmetic)
    assert result.keys() == tuned.keys()
    for name in result:
        assert result[name].dtype == tuned[name].dtype
        assert torch.equal(result[name], expected[name]), name
        assert torch.equal(tuned[name], kept[name]), "the tuned tensors are not written to"
    assert report.count == len(chosen)
    assert report.threshold == (-chosen[-1][0] if chosen else None)


@settings(max_examples=150, deadline=None)
@given(models(), percents, st.sampled_from(["fp32", "bf16"]))
def test_reports_what_the_naive_oracle_counts(pair, percent, arithmetic):
    base, tuned = pair
    _, report = rank(base, tuned, arithmetic).apply(percent)
    expected, chosen = naive_restore(base, tuned, Fraction(percent), arithmetic)
    order = naive_order(base, tuned, arithmetic)
    keep = (lambda x: x) if arithmetic == "fp32" else bf16

    def value(model, entry):
        return float(model[entry[1]].flatten()[entry[2]])

    def update(entry):
        return float(np.float32(value(tuned, entry)) - np.float32(value(base, entry)))

    def share(of, condition=lambda entry: True):
        whole = math.fsum(of(entry) for entry in order if condition(entry))
        part = math.fsum(of(entry) for entry in chosen if condition(entry))
        return pytest.approx(part / whole if whole else 0.0, rel=1e-6, abs=1e-12)

    def is_zero(entry):
        return keep(value(base, entry)) == 0

    assert report.region == len(order)
    assert report.unchanged == sum(
        keep(value(base, entry)) == keep(value(tuned, entry)) for entry in order
    )
    assert report.unchanged_share == report.unchanged / len(order)
    assert report.zero_base == sum(map(is_zero, order))
    assert report.zero_base_restored == sum(map(is_zero, chosen))
    assert report.change_share == share(lambda entry: -entry[0])
    assert report.change_share_without_zero_base == share(
        lambda entry: -entry[0], lambda entry: not is_zero(entry)
    )
    assert report.l1_removed == share(lambda entry: abs(update(entry)))
    squared = share(lambda entry: update(entry) ** 2).expected
    assert report.l2_removed == pytest.approx(math.sqrt(squared), rel=1e-6, abs=1e-9)
    assert report.changed == sum(int((expected[n] != tuned[n]).sum()) for n in expected)
    assert report.equals_tuned is all(torch.equal(expected[n], tuned[n]) for n in tuned)
    assert report.equals_base is all(
        torch.equal(expected[n], base[n].to(tuned[n].dtype)) for n in tuned
    )
    json.dumps(report.record(), allow_nan=False)


finite = st.floats(-100, 100, width=32)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=20))
def test_bf16_rounds_after_every_operation(pairs):
    p, s = torch.tensor(pairs, dtype=torch.float32).unbind(1)
    change = relative_change(p, s, "bf16")
    assert change.dtype == torch.bfloat16
    assert change.tolist() == [naive_change(a, b, "bf16") for a, b in pairs]


@settings(max_examples=100, deadline=None)
@given(models(), percents, st.sampled_from(["fp32", "bf16"]))
def test_torch_topk_agrees_outside_the_ties(pair, percent, arithmetic):
    """The authors rank with torch.topk, which settles ties at the threshold as it likes."""
    base, tuned = pair
    ranking = rank(base, tuned, arithmetic)
    changes = torch.cat([c.flatten() for c in ranking.changes.values()]).float()
    masks = dict(ranking.masks(percent))
    ours = torch.cat([masks[n].flatten() for n in ranking.changes]) if masks else changes < 0
    count = restored_count(len(changes), percent)
    theirs = torch.zeros_like(ours)
    theirs[torch.topk(changes, count).indices] = True
    assert int(ours.sum()) == int(theirs.sum()) == count
    differing = changes[ours != theirs]
    assert torch.all(differing == changes[ours].min()) if len(differing) else True


@given(st.integers(0, 10**12), st.decimals(0, 100, places=6))
def test_the_count_is_exact(scalars, percent):
    millionths = int(percent * 10**6)
    assert restored_count(scalars, percent) == scalars * millionths // (100 * 10**6)


def test_the_count_does_not_suffer_from_binary_fractions():
    assert int(10_000 * (0.29 / 100)) == 28  # what floats make of 29
    assert restored_count(10_000, Decimal("0.29")) == 29
    with pytest.raises(ValueError, match=r"100.5 % is not between 0 and 100 %"):
        restored_count(10, Decimal("100.5"))


@pytest.mark.parametrize(
    ("name", "ranked"),
    [
        ("model.layers.0.mlp.up_proj.weight", True),
        ("model.layers.0.self_attn.q_proj.bias", True),
        ("model.layers.0.input_layernorm.weight", False),
        ("model.layers.0.self_attn.q_norm.weight", False),
        ("model.embed_tokens.weight", False),
        ("model.norm.weight", False),
        ("lm_head.weight", False),
    ],
)
def test_the_region(name, ranked):
    assert in_region(name) is ranked


def test_ties_go_to_the_first_name_then_the_first_index():
    names = ["layers.2.b", "layers.10.b", "layers.1.b"]
    base = {name: torch.ones(3) for name in names}
    tuned = {name: torch.full((3,), 2.0) for name in names}
    result, _ = rank(base, tuned).apply(Decimal(50))
    assert result["layers.1.b"].tolist() == [1, 1, 1]  # "." sorts before "0"
    assert result["layers.10.b"].tolist() == [1, 2, 2]
    assert result["layers.2.b"].tolist() == [2, 2, 2]


def test_one_ranking_serves_many_percentages():
    torch.manual_seed(1)
    base = {"layers.w": torch.randn(40, 50)}
    tuned = {"layers.w": base["layers.w"] + 0.1 * torch.randn(40, 50)}
    ranking = rank(base, tuned)
    masks = [dict(ranking.masks(Decimal(k)))["layers.w"] for k in (1, 5, 20, 60)]
    assert [int(mask.sum()) for mask in masks] == [20, 100, 400, 1200]
    assert all(bool((small <= large).all()) for small, large in pairwise(masks))


# --- reports and warnings ------------------------------------------------------------------------


def report_of(base, tuned, percent, arithmetic="fp32"):
    return rank(base, tuned, arithmetic).apply(Decimal(percent))[1]


def test_a_restore_of_everything_equals_the_base_only_with_the_rest_unchanged():
    base = {"layers.w": torch.tensor([1.0, 2.0]), "embed": torch.ones(1)}
    tuned = {"layers.w": torch.tensor([1.5, 2.0]), "embed": torch.ones(1)}
    whole = report_of(base, tuned, 100)
    assert (whole.equals_base, whole.equals_tuned) == (True, False)
    assert whole.warnings() == ["This variant equals the base: the whole update is gone."]
    assert report_of(base, tuned, 50).equals_base, "the only changed scalar is restored"
    assert not report_of(base, {**tuned, "embed": torch.zeros(1)}, 100).equals_base


def test_a_restore_of_nothing_equals_the_tuned_model():
    base = {"layers.w": torch.tensor([1.0, 2.0])}
    tuned = {"layers.w": torch.tensor([1.5, 2.5])}
    nothing = report_of(base, tuned, 0)
    assert (nothing.count, nothing.threshold, nothing.changed) == (0, None, 0)
    assert nothing.warnings() == [
        "This variant equals the tuned model: the restore changed nothing."
    ]


def test_base_and_tuned_alike():
    base = {"layers.w": torch.tensor([1.0, 2.0])}
    alike = report_of(base, base, 50)
    assert alike.change_share == alike.l1_removed == alike.l2_removed == 0
    assert alike.warnings()[0] == (
        "Base and tuned are the same model: there is nothing to restore."
    )


def test_a_restored_base_is_rounded_to_the_tuned_dtype():
    base = {"layers.w": torch.tensor([0.1, 0.2])}
    tuned = {"layers.w": torch.tensor([0.5, 0.6]).bfloat16()}
    result, report = rank(base, tuned).apply(Decimal(100))
    assert torch.equal(result["layers.w"], base["layers.w"].bfloat16())
    assert report.equals_base


def test_unchanged_and_zero_base_scalars_are_told():
    base = {"layers.w": torch.tensor([0.0, 1.0, 1.0, 1.0])}
    tuned = {"layers.w": torch.tensor([1e-4, 1.5, 1.0, 1.0])}
    report = report_of(base, {**tuned, "layers.w": tuned["layers.w"]}, 25)
    assert report.zero_base_change_share == pytest.approx(1.0, abs=1e-4)
    assert report.change_share_without_zero_base == 0.0
    (warning,) = report.warnings()
    assert warning.startswith("1 scalars that are zero in the base hold 100.0% of the summed")
    same = torch.tensor([0.5, 1.0, 1.0, 1.0])
    (warning,) = report_of({"layers.w": torch.ones(4)}, {"layers.w": same}, 10).warnings()[1:]
    assert warning.startswith("75.0% of the ranked scalars are unchanged in fp32: they rank last")


def test_bf16_arithmetic_does_not_see_small_updates():
    base = {"layers.w": torch.ones(1000)}
    tuned = {"layers.w": torch.ones(1000) + 1e-4}
    assert report_of(base, tuned, 10, "fp32").unchanged == 0
    assert report_of(base, tuned, 10, "bf16").unchanged == 1000
    assert report_of(base, tuned, 10, "bf16").changed == 100


@given(models())
def test_the_update_norm_is_the_l2_norm_of_all_tensors(pair):
    base, tuned = pair
    flat = [
        float(np.float32(s) - np.float32(p))
        for name in base
        for p, s in zip(base[name].flatten().tolist(), tuned[name].flatten().tolist(), strict=True)
    ]
    assert update_norm(base, tuned) == pytest.approx(math.hypot(*flat), rel=1e-6)
