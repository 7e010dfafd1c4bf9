"""Muon in float32: torch's rule, and singular values pushed towards 1."""

from __future__ import annotations

import pytest
import torch

from sftbench.lab.muon import Muon, orthogonalised

pytestmark = pytest.mark.unit

SHAPES = [(24, 12), (12, 24), (16, 16), (24, 12)]


def matrices(seed, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def trained(make, start, steps=4):
    """Return how far each matrix moved by so many steps, the gradients always the same ones."""
    weights = [torch.nn.Parameter(one.clone()) for one in start]
    optimizer = make(weights)
    for step in range(steps):
        for weight, grad in zip(weights, matrices(100 + step), strict=False):
            weight.grad = grad
        optimizer.step()
    return [(weight - one).detach() for weight, one in zip(weights, start, strict=True)]


def ours(weights):
    return Muon(weights, lr=0.02, weight_decay=0.1)


def test_it_is_the_muon_of_torch():
    start = matrices(1)
    theirs = trained(lambda weights: torch.optim.Muon(weights, lr=0.02, weight_decay=0.1), start)
    for mine, other in zip(trained(ours, start), theirs, strict=True):
        assert (mine - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("shape", [(32, 8), (8, 32)])
def test_singular_values_are_pushed_towards_1(shape):
    found = orthogonalised(torch.stack(matrices(2, [shape] * 3)) * 1e-3)
    values = torch.linalg.svdvals(found)
    assert found.shape == (3, *shape)
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_directions_stay():
    (matrix,) = matrices(3, [(12, 6)])
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    core = u.mT @ orthogonalised(matrix[None])[0] @ v.mT
    assert torch.allclose(core, torch.diag(core.diag()), atol=1e-4)
    assert (core.diag() > 0.5).all()


def test_zero_stays_zero():
    assert torch.equal(orthogonalised(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_matrices_of_one_shape_do_not_touch_each_other():
    start = matrices(1)
    together = trained(ours, start)
    alone = trained(lambda weights: Several([ours([weight]) for weight in weights]), start)
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


class Several:
    """Several optimizers that step one after the other."""

    def __init__(self, optimizers):
        self.optimizers = optimizers

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()
