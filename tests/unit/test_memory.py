"""Out of memory: what does not fit is halved, in order, and remembered."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.engines.memory import Room, is_out_of_memory
from sftbench.engines.protocol import Draws
from sftbench.engines.transformers import _halve, _halve_draws

pytestmark = pytest.mark.unit


class Memory:
    """Work that fits only so many rows, and counts its failures."""

    def __init__(self, fits):
        self.fits = fits
        self.failures = 0

    def __call__(self, batch):
        if len(batch) > self.fits:
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [item * 10 for item in batch]


@settings(max_examples=25, deadline=None)  # each failure collects garbage, as on a GPU
@given(
    st.lists(st.lists(st.integers(), min_size=1, max_size=20), max_size=3),
    st.integers(1, 20),
)
def test_everything_is_done_once_and_in_order(batches, fits):
    room, memory = Room(20), Memory(fits)
    done = list(room.run(batches, memory, size=len, halves=_halve))
    assert [item for batch, _ in done for item in batch] == [i for b in batches for i in b]
    assert all(result == [item * 10 for item in batch] for batch, result in done)
    assert all(len(batch) <= fits for batch, _ in done)


def test_what_was_learnt_is_kept():
    room, memory = Room(16), Memory(4)
    for _ in range(3):
        list(room.run([list(range(16))] * 3, memory, size=len, halves=_halve))
    assert memory.failures == 2  # at 16 and at 8, and never again
    assert room.rows == 4


def test_a_single_prompt_that_does_not_fit_is_a_clear_error():
    with pytest.raises(SftbenchError, match="out of memory on a single prompt"):
        list(Room(4).run([[1, 2, 3, 4]], Memory(0), size=len, halves=_halve))


def test_another_error_is_not_swallowed():
    def broken(batch):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        list(Room(4).run([[1, 2]], broken, size=len, halves=_halve))


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("HIP out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes"), False),
        (ValueError("memory of a file"), False),
    ],
)
def test_what_out_of_memory_looks_like(error, out):
    assert is_out_of_memory(error) is out


@given(st.integers(1, 50), st.integers(0, 2**62))
def test_children_keep_their_seeds_when_a_draw_is_halved(n, seed):
    batch, parts = [Draws("p", seed, n)], []
    while batch:
        halves = _halve_draws(batch)
        if halves is None:
            parts += batch
            break
        parts += halves[0]
        batch = halves[1]
    seeds = [one.seed + child for one in parts for child in range(one.n)]
    assert seeds == [seed + child for child in range(n)]
