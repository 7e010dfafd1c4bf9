"""Draws follow the softmax, and depend on the seed alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sftbench.engines.sampling import CHUNK, draw, uniforms

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("vocabulary", "temperature"), [(50, 0.7), (1000, 0.7), (512, 1.3)])
def test_frequencies_follow_the_softmax(vocabulary, temperature):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, vocabulary, generator=generator) * 2
    count = 20_000
    chance = uniforms(range(count), 1)[:, 0]
    tokens = draw(logits.expand(count, -1), temperature, chance)
    expected = torch.softmax(logits[0].double() / temperature, 0).numpy() * count
    seen = np.bincount(tokens.numpy(), minlength=vocabulary)
    common = expected >= 5
    assert (
        chisquare(
            np.append(seen[common], seen[~common].sum()),
            np.append(expected[common], expected[~common].sum()) + 1e-12,
        ).pvalue
        > 1e-3
    )


def test_each_row_is_the_inverse_of_its_cumulated_distribution():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(300, 777, generator=generator).double()
    chance = uniforms(range(300), 1)[:, 0]
    tokens = draw(logits.float(), 0.7, chance)
    cumulated = torch.softmax(logits / 0.7, 1).cumsum(1)
    expected = (cumulated <= chance.unsqueeze(1)).sum(1)
    assert (tokens == expected).float().mean() > 0.995  # float32 may round at a border
    assert (tokens - expected).abs().max() <= 1


@given(st.integers(1, 3 * CHUNK), st.integers(1, 700), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_a_draw_never_leaves_the_vocabulary_nor_takes_what_cannot_be(rows, vocabulary, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=generator)
    possible = torch.randint(vocabulary, (rows,), generator=generator)
    mask = torch.rand(rows, vocabulary, generator=generator) < 0.5
    mask[torch.arange(rows), possible] = False
    logits[mask] = -1e30
    chance = torch.rand(rows, generator=generator, dtype=torch.float64)
    chance[0] = 1 - 2**-53  # the largest uniform there is
    tokens = draw(logits, 0.7, chance)
    assert not mask[torch.arange(rows), tokens].any()


def test_a_row_does_not_depend_on_its_neighbours():
    alone = uniforms([7], 32)
    among = uniforms([3, 7, 11], 32)
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(among[0], among[1])
    assert torch.equal(uniforms([7], 8)[0], alone[0, :8])
