"""The paper's restore and its report, one scalar at a time, without torch and numpy's help.

The same naive restore checks the oracle, a full sort of whole models (`whole_model.py`), which
checks the streaming one in `test_select.py`.
"""

from __future__ import annotations

import json
import math
import struct
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from two_models import bits, pair_of, restored
from whole_model import rank, relative_change

from sftbench.checkpoints import kernels
from sftbench.checkpoints.update import update_norm

pytestmark = pytest.mark.unit

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VALUES = (0.0, -0.0, 0.5, -0.5, 1.0, 1.5, -2.0, 1e-8, 3e-7, 0.1, 1.0078125)
OUTSIDE = ("model.embed_tokens.weight", "model.layers.0.input_layernorm.weight")
INSIDE = ("model.layers.0.mlp.up_proj.weight", "model.layers.10.q.weight", "model.layers.2.q.bias")


# --- one scalar at a time, written apart from the code -------------------------------------------


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


def restore(base, tuned, percent, arithmetic):
    rule = f"relative,{percent:f}%,{arithmetic}"
    ((planned, result),) = restored(pair_of(base, tuned), rule)
    return result, planned.report


# --- what is restored ---------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(models(), percents, st.sampled_from(["fp32", "bf16"]))
def test_restores_what_the_naive_oracle_restores(pair, percent, arithmetic):
    base, tuned = pair
    result, report = restore(base, tuned, percent, arithmetic)
    expected, chosen = naive_restore(base, tuned, Fraction(percent), arithmetic)
    oracle, figures = rank(base, tuned, arithmetic).apply(percent)
    assert result.keys() == oracle.keys() == tuned.keys()
    for name in result:
        assert result[name].dtype == tuned[name].dtype
        assert bits(result[name]) == bits(expected[name]) == bits(oracle[name]), name
    assert report.count == figures.count == len(chosen)
    last = -chosen[-1][0] if chosen else None
    assert figures.threshold == last
    assert report.threshold == (None if percent == 100 else last)


@settings(max_examples=80, deadline=None)
@given(models(), percents, st.sampled_from(["fp32", "bf16"]))
def test_reports_what_the_naive_oracle_counts(pair, percent, arithmetic):
    base, tuned = pair
    _, report = restore(base, tuned, percent, arithmetic)
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


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(finite, finite), min_size=1, max_size=20), st.sampled_from(["fp32", "bf16"])
)
def test_every_operation_is_rounded(pairs, arithmetic):
    p, s = torch.tensor(pairs, dtype=torch.float32).unbind(1)
    expected = [naive_change(a, b, arithmetic) for a, b in pairs]
    assert relative_change(p, s, arithmetic).tolist() == expected
    kind = kernels.RELATIVE_BF16 if arithmetic == "bf16" else kernels.RELATIVE
    keys = np.empty(len(p), np.int32)
    how = kind, False, False, 0, np.float32(0)
    kernels.keys(how, p.contiguous().numpy(), s.contiguous().numpy(), 0, keys)
    assert keys.view(np.float32).tolist() == expected


@given(models())
def test_the_update_norm_is_the_l2_norm_of_all_tensors(pair):
    base, tuned = pair
    flat = [
        float(np.float32(s) - np.float32(p))
        for name in base
        for p, s in zip(base[name].flatten().tolist(), tuned[name].flatten().tolist(), strict=True)
    ]
    assert update_norm(base, tuned) == pytest.approx(math.hypot(*flat), rel=1e-6)
