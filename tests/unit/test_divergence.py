"""The divergence of two rows of logits: identities, and a float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from sftbench.engines.divergence import divergence, top_divergence

pytestmark = pytest.mark.unit

WIDE = st.floats(-60, 60, width=32)
PAIRS = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*(arrays(np.float32, (3, n), elements=WIDE) for _ in range(2)))
)


def reference(p_logits: np.ndarray, q_logits: np.ndarray) -> np.ndarray:
    """Return KL(p || q) of each row as it is defined, in extended precision where there is one."""
    log_p, log_q = (log_softmax(one.astype(np.longdouble), axis=1) for one in (p_logits, q_logits))
    return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=1), dtype=float)


def tensors(*arrays_: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(one) for one in arrays_]


@settings(max_examples=150, deadline=None)
@given(PAIRS)
def test_it_is_the_reference_in_both_directions_and_never_negative(pair) -> None:
    found = divergence(*tensors(*pair))
    assert found.tuned_base.dtype == torch.float64
    assert found.tuned_base.numpy() == pytest.approx(reference(*pair), rel=1e-9, abs=1e-14)
    assert found.base_tuned.numpy() == pytest.approx(reference(*pair[::-1]), rel=1e-9, abs=1e-14)
    assert (found.tuned_base >= 0).all()
    assert (found.base_tuned >= 0).all()
    assert (found.beyond == 0).all()


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_a_distribution_is_at_no_distance_from_itself(pair) -> None:
    (one,) = tensors(pair[0])
    found = divergence(one, one.clone())
    assert (found.tuned_base == 0).all()
    assert (found.base_tuned == 0).all()
    assert (top_divergence(one, one.clone()) == 0).all()
    # Logits are known up to a constant only.
    shifted = divergence(one.double() + 3.25, one.double())
    assert shifted.tuned_base.numpy() == pytest.approx(0, abs=1e-24)


@settings(max_examples=50, deadline=None)
@given(PAIRS, st.integers(1, 50))
def test_the_size_of_a_block_does_not_matter(pair, block) -> None:
    whole, pieces = (divergence(*tensors(*pair), block=size) for size in (10**6, block))
    for one, other in zip(whole, pieces, strict=True):
        assert other.numpy() == pytest.approx(one.numpy(), rel=1e-12, abs=1e-18)


def test_a_tiny_divergence_keeps_its_digits() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 3, (4, 5000))
    step = rng.normal(0, 1e-7, base.shape)
    found = divergence(*tensors(base + step, base)).tuned_base.numpy()
    # To second order the KL is half the variance of the change under p.
    p = np.exp(log_softmax(base, axis=1))
    half = ((p * step**2).sum(1) - (p * step).sum(1) ** 2) / 2
    assert half.max() < 1e-13
    assert found == pytest.approx(half, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_finite_when_probabilities_underflow(dtype) -> None:
    one = torch.tensor([[0.0, -3e4, 3e4], [5.0, 5.0, -6e4]], dtype=dtype)
    two = torch.tensor([[3e4, 0.0, -3e4], [-6e4, 5.0, 5.0]], dtype=dtype)
    found = divergence(one, two)
    assert torch.isfinite(found.tuned_base).all()
    assert torch.isfinite(found.base_tuned).all()
    assert found.tuned_base[0].item() == pytest.approx(float(two[0, 0] - two[0, 2]), rel=1e-3)


def test_what_both_forbid_counts_nothing_and_what_one_forbids_everything() -> None:
    barred = float("-inf")
    one = torch.tensor([[1.0, barred, 2.0], [1.0, 0.0, 2.0]])
    two = torch.tensor([[0.0, barred, 2.0], [1.0, barred, 2.0]])
    plain = divergence(one[:1, [0, 2]], two[:1, [0, 2]])
    found = divergence(one, two)
    assert found.tuned_base[0] == pytest.approx(plain.tuned_base[0])
    assert found.tuned_base[1] == float("inf")
    assert torch.isfinite(found.base_tuned[1])


def test_only_the_rows_that_are_asked_for_are_compared() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(5, 30, generator=generator) for _ in range(2))
    rows = torch.tensor([3, 1])
    some, every = divergence(one, two, rows=rows, block=7), divergence(one, two)
    assert torch.allclose(some.tuned_base, every.tuned_base[rows], rtol=1e-12)


def test_of_a_longer_vocabulary_the_common_ids_count_and_the_rest_is_said() -> None:
    generator = torch.Generator().manual_seed(0)
    tuned, base = torch.randn(4, 25, generator=generator), torch.randn(4, 20, generator=generator)
    found = divergence(tuned, base, block=6)
    assert found.tuned_base.numpy() == pytest.approx(
        reference(tuned[:, :20].numpy(), base.numpy()), rel=1e-9
    )
    assert torch.allclose(found.beyond, tuned.double().softmax(1)[:, 20:].sum(1))
    shorter = divergence(base, tuned)
    assert shorter.tuned_base.numpy() == pytest.approx(
        reference(base.numpy(), tuned[:, :20].numpy()), rel=1e-9
    )
    assert (shorter.beyond == 0).all()


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_the_papers_figure_is_that_of_a_plain_reading_of_it(pair) -> None:
    tuned, base = pair
    found = top_divergence(*tensors(tuned, base)).numpy()
    for place in range(len(tuned)):
        ids = np.argsort(-tuned[place], kind="stable")[:10]
        wanted = reference(tuned[place : place + 1, ids], base[place : place + 1, ids])
        assert found[place] == pytest.approx(wanted[0], rel=1e-9, abs=1e-14)


def test_the_papers_figure_is_not_a_bound_of_the_true_one() -> None:
    """It can lie above and below: what it renormalises away may agree or differ."""
    tuned, base = torch.zeros(1, 100), torch.zeros(1, 100)
    base[0, 50:] = 8.0
    assert divergence(tuned, base).tuned_base > 3
    assert top_divergence(tuned, base) == 0
    tuned[0, :10], base[0, 0] = 1.0, -6.0
    base[0, 50:] = 0.0
    assert top_divergence(tuned, base) > divergence(tuned, base).tuned_base > 0


def test_no_rows_are_no_figures() -> None:
    none = torch.zeros(0, 12)
    assert top_divergence(none, none).shape == (0,)
