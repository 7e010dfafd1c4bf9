"""The probe after a swap: what it lets pass and what it does not."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.engines.parity import MEAN_NOISE, NOISE, compare, followed

pytestmark = pytest.mark.unit

OLD = [-random.Random(0).expovariate(0.3) for _ in range(120)]


def moved(values, by, seed):
    generator = random.Random(seed)
    return [value + generator.gauss(0, by) for value in values]


def test_noise_passes_and_is_reported():
    parity = compare(moved(OLD, 0.001, 1), OLD, dtype="float32", before=OLD)
    assert parity.tokens == 120
    assert 0 < parity.mean < parity.largest < NOISE["float32"]


@pytest.mark.parametrize("dtype", sorted(NOISE))
def test_one_token_beyond_noise_fails(dtype):
    wrong = [OLD[0] + 1.01 * NOISE[dtype], *OLD[1:]]
    with pytest.raises(SftbenchError, match="differs from transformers"):
        compare(wrong, OLD, dtype=dtype)


@pytest.mark.parametrize("dtype", sorted(NOISE))
def test_many_tokens_a_little_beyond_noise_fail(dtype):
    wrong = [value + 1.01 * MEAN_NOISE[dtype] for value in OLD]
    with pytest.raises(SftbenchError, match="in the mean"):
        compare(wrong, OLD, dtype=dtype)


def test_old_weights_fail_even_inside_the_noise_of_bfloat16():
    new = moved(OLD, 0.08, 2)
    noisy = moved(OLD, 0.01, 3)
    assert max(abs(a - b) for a, b in zip(noisy, new, strict=True)) < NOISE["bfloat16"]
    with pytest.raises(SftbenchError, match="of the change that the new weights make"):
        compare(noisy, new, dtype="bfloat16", before=OLD)


def test_half_of_the_change_fails():
    """As a stale output head does: part of the model follows, part does not."""
    new = moved(OLD, 0.05, 4)
    half = [(a + b) / 2 for a, b in zip(OLD, new, strict=True)]
    with pytest.raises(SftbenchError, match="50%"):
        compare(half, new, dtype="bfloat16", before=OLD)


def test_a_change_below_the_noise_cannot_be_judged():
    new = moved(OLD, 0.001, 5)
    noisy = moved(new, 0.05, 6)
    assert followed(noisy, new, OLD) is None
    assert followed(noisy, OLD, OLD) is None
    compare(noisy, new, dtype="bfloat16", before=OLD)


@given(st.floats(-2, 2))
def test_the_share_is_what_was_followed(share):
    new = moved(OLD, 0.5, 7)
    mixed = [old + share * (fresh - old) for old, fresh in zip(OLD, new, strict=True)]
    assert followed(mixed, new, OLD) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_fails(broken):
    with pytest.raises(SftbenchError, match="not finite"):
        compare([broken, *OLD[1:]], [broken, *OLD[1:]], dtype="float32")
