"""Batches by common prefix: nothing lost, nothing twice, alike together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftbench.engines.decoding import WORTH_SHARING, by_prefix, shared_length

pytestmark = pytest.mark.unit

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=60), max_size=30)


@given(sequences, st.integers(1, 9))
def test_every_sequence_is_in_one_batch(items, size):
    batches = by_prefix(items, size)
    assert sorted(place for batch in batches for place in batch) == list(range(len(items)))
    assert all(1 <= len(batch) <= size for batch in batches)


@given(sequences, st.integers(1, 3))
def test_what_is_shared_is_shared_by_all_and_leaves_each_its_own(items, keep):
    length = shared_length(items, keep)
    assert length == 0 or length >= WORTH_SHARING
    assert len({tuple(item[:length]) for item in items}) <= 1
    if length:
        assert min(map(len, items)) - length >= keep


def test_prompts_with_the_same_examples_stand_together():
    examples = [[i] * 40 for i in range(3)]
    prompts = [examples[i % 3] + [90, i] for i in range(12)]
    batches = by_prefix(prompts, 8)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert all(len({place % 3 for place in batch}) == 1 for batch in batches)
    assert all(shared_length([prompts[i] for i in batch], 1) == 41 for batch in batches)


def test_prompts_that_are_unlike_fill_their_batches_by_length():
    prompts = [[i] * (20 + i) for i in range(10)]
    assert by_prefix(prompts, 4) == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
