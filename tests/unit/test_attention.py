"""Attention for few queries: the numbers of SDPA, and nothing that is SDPA's alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.integrations import sdpa_attention

from sftbench.engines.attention import FEW, decode_attention

pytestmark = pytest.mark.unit


class Layer(torch.nn.Module):
    """What an attention layer says of itself."""

    is_causal = True

    def __init__(self, repeats):
        super().__init__()
        self.num_key_value_groups = repeats
        self.eval()


def asked(seed, rows, groups, repeats, queries, positions, width=8):
    made = torch.Generator().manual_seed(seed)
    query = torch.randn(rows, groups * repeats, queries, width, generator=made)
    key, value = torch.randn(2, rows, groups, positions, width, generator=made)
    mask = torch.rand(rows, 1, queries, positions, generator=made) < 0.5
    mask[..., -1] = True  # nobody looks at nothing
    return query, key, value, mask


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.data())
def test_few_queries_see_what_sdpa_sees(seed, rows, groups, repeats, data):
    queries = data.draw(st.integers(1, FEW))
    positions = queries + data.draw(st.integers(0, 9))
    query, key, value, mask = asked(seed, rows, groups, repeats, queries, positions)
    layer, before = Layer(repeats), query.clone()
    for scaling in (None, 0.3):
        found, weights = decode_attention(layer, query, key, value, mask, scaling=scaling)
        other, _ = sdpa_attention.sdpa_attention_forward(
            layer, query, key, value, mask, scaling=scaling
        )
        assert weights is None
        assert torch.allclose(found, other, atol=1e-5)
    assert torch.equal(query, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [0, 5, 25, 60])
def test_half_precision_loses_no_more_than_sdpa_does(monkeypatch, dtype, offset):
    query, key, value, mask = asked(1, 2, 2, 2, 1, 9, width=64)
    query, key, value = query + offset, key + offset, value
    half = [one.to(dtype) for one in (query, key, value)]
    exact, _ = sdpa_attention.sdpa_attention_forward(
        Layer(2), *(one.double() for one in half), mask
    )
    errors = [
        (way(Layer(2), *half, mask)[0].double() - exact).abs().max()
        for way in (decode_attention, sdpa_attention.sdpa_attention_forward)
    ]
    assert errors[0] <= 2 * errors[1] + 0.01
    called = []
    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", lambda *_, **__: called.append(1))
    decode_attention(Layer(2), *half, mask)
    assert not called  # one query is ours; several are SDPA's in half precision


def test_padding_that_sees_nothing_stays_a_number():
    query, key, value, mask = asked(0, 2, 1, 2, 3, 5)
    mask[0, 0, 0] = False
    found, _ = decode_attention(Layer(2), query, key, value, mask)
    other, _ = sdpa_attention.sdpa_attention_forward(Layer(2), query, key, value, mask)
    assert found.isfinite().all()
    assert torch.allclose(found[0, 1:], other[0, 1:], atol=1e-5)
    assert torch.allclose(found[1], other[1], atol=1e-5)


@pytest.mark.parametrize(
    ("queries", "masked", "ours"),
    [(1, False, True), (2, False, False), (FEW, True, True), (FEW + 1, True, False)],
)
def test_the_rest_is_left_to_sdpa(monkeypatch, queries, masked, ours):
    called = []
    real = sdpa_attention.sdpa_attention_forward

    def noted(*args, **kwargs):
        called.append(True)
        return real(*args, **kwargs)

    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", noted)
    query, key, value, mask = asked(0, 2, 2, 2, queries, queries)
    given_mask = mask if masked else None
    found, _ = decode_attention(Layer(2), query, key, value, given_mask)
    assert called == ([] if ours else [True])
    assert torch.allclose(found, real(Layer(2), query, key, value, given_mask)[0], atol=1e-5)
