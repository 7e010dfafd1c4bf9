"""The perturbation null: a random change of the update's norm in every tensor that changed."""

from __future__ import annotations

import math

import pytest
import torch

from sftbench.checkpoints.perturb import Perturbed
from sftbench.checkpoints.update import HEAD, is_tied, update_norm
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

EMBEDDING = "model.embed_tokens.weight"
UP, DOWN, NORM = "model.layers.0.up.weight", "model.layers.0.down.weight", "model.norm.weight"


def model(seed, *, head=False, vocabulary=12, like=None, dtype=torch.float32):
    """Return a tiny model; `like` one makes it a small update of that one."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {EMBEDDING: (vocabulary, 8), UP: (16, 8), DOWN: (8, 16), NORM: (8,)}
    if head:
        shapes[HEAD] = (vocabulary, 8)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if like is not None:
        tensors = {name: like[name].float() + 0.01 * one for name, one in tensors.items()}
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def perturbed(*args, **options):
    """Return all tensors of a random change, and the record of it."""
    made = Perturbed(*args, **options)
    return dict(made.items()), made.perturbation


def distance(one, other):
    return float(torch.linalg.vector_norm(one.double() - other.double()))


def all_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_tensor_is_changed_by_as_much_as_the_update():
    base = model(1, head=True)
    tuned = model(2, head=True, like=base)
    found, record = perturbed(base, tuned, 1, "pair")
    for name in base:
        assert distance(found[name], base[name]) == pytest.approx(
            distance(tuned[name], base[name]), rel=1e-5
        )
        assert not torch.allclose(found[name], tuned[name], atol=1e-3)
    assert record.norm == pytest.approx(update_norm(base, tuned), rel=1e-5)
    assert record.update == pytest.approx(update_norm(base, tuned))
    assert (record.tensors, record.dtype) == (5, "float32")


def test_the_models_given_stay_as_they_are():
    base = model(1)
    tuned = model(2, like=base)
    copies = [{name: tensor.clone() for name, tensor in one.items()} for one in (base, tuned)]
    perturbed(base, tuned, 1, "pair")
    assert all_equal(base, copies[0])
    assert all_equal(tuned, copies[1])


def test_what_the_fine_tune_left_alone_is_the_same_object():
    base = model(1, dtype=torch.bfloat16)
    tuned = {**base, UP: base[UP] + 1}
    found, record = perturbed(base, tuned, 1, "pair")
    assert [name for name in base if found[name] is not base[name]] == [UP]
    assert record.norm == pytest.approx(math.sqrt(16 * 8), rel=1e-2)
    assert record.tensors == 1
    nothing, record = perturbed(base, base, 1, "pair")
    assert all(nothing[name] is base[name] for name in base)
    assert (record.norm, record.update, record.tensors, record.ratio) == (0, 0, 0, 1)


def test_the_same_draw_is_the_same_change_and_another_is_another():
    base = model(1)
    tuned = model(2, like=base)
    found, _ = perturbed(base, tuned, 1, "pair")
    assert all_equal(found, perturbed(base, tuned, 1, "pair")[0])
    assert all_equal(found, perturbed(dict(reversed(base.items())), tuned, 1, "pair")[0])
    for other in (perturbed(base, tuned, 2, "pair")[0], perturbed(base, tuned, 1, "others")[0]):
        for name in base:
            assert not torch.equal(other[name], found[name])


def test_the_change_is_the_same_on_every_machine():
    found, _ = perturbed({UP: torch.zeros(2, 2)}, {UP: torch.ones(2, 2)}, 1, "pair")
    expected = torch.tensor([[1.0704, 1.0674], [-0.9049, -0.9466]])
    assert torch.allclose(found[UP], expected, atol=1e-4)


def test_tensors_get_numbers_of_their_own():
    """Two tensors of one shape and update: their directions have nothing to do with each other."""
    shape = (100, 100)
    base = {"layers.0.a": torch.zeros(shape), "layers.1.a": torch.zeros(shape)}
    tuned = {name: torch.ones(shape) for name in base}
    found, _ = perturbed(base, tuned, 1, "pair")
    one, other = (tensor.flatten() for tensor in found.values())
    assert abs(float(one @ other)) / 1e4 < 0.05
    assert float(one.mean()) == pytest.approx(0, abs=0.05)
    assert float(one.std()) == pytest.approx(1, abs=0.01)
    assert float((one.abs() < 1).float().mean()) == pytest.approx(0.683, abs=0.02)


def test_a_base_in_bfloat16_becomes_float32_and_keeps_small_changes():
    base = model(1, dtype=torch.bfloat16)
    tuned = {name: tensor.float() * (1 + 1e-4) for name, tensor in base.items()}
    found, _ = perturbed(base, tuned, 1, "pair")
    for name in base:
        assert found[name].dtype == torch.float32
        assert distance(found[name], base[name]) == pytest.approx(
            distance(tuned[name], base[name]), rel=1e-3
        )


@pytest.mark.parametrize("relative", [1e-4, 1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_the_change_that_is_left_after_rounding_has_the_norm(dtype, relative):
    """Rounding to nearest swallows changes far below its grid, and widens those of about half."""
    form = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(3)
    base = {UP: torch.randn(200, 200, generator=generator)}
    tuned = {UP: base[UP] + relative * torch.randn(200, 200, generator=generator)}
    found, record = perturbed(base, tuned, 1, "pair", dtype=dtype)
    assert found[UP].dtype == form
    seen = distance(found[UP], base[UP].to(form))
    assert seen == pytest.approx(distance(tuned[UP].to(form), base[UP].to(form)), rel=2e-3)
    assert (record.norm, record.dtype) == (pytest.approx(seen), dtype)
    assert record.ratio == pytest.approx(1, abs=2e-3)


def test_a_tensor_of_few_numbers_comes_as_close_as_rounding_lets_it():
    base = {NORM: torch.ones(3), UP: torch.zeros(2, 2)}
    tuned = {NORM: torch.tensor([1.0, 1.0, 1.0078125]), UP: torch.zeros(2, 2)}
    found, record = perturbed(base, tuned, 1, "pair", dtype="bfloat16")
    steps = distance(found[NORM], base[NORM]) / 0.0078125
    assert 0.4 < steps < 1.5
    assert record.norm == pytest.approx(steps * 0.0078125)
    assert record.update == pytest.approx(0.0078125)


def test_what_half_precision_does_not_show_is_no_update():
    base = model(1)
    tuned = {**base, UP: base[UP] * (1 + 1e-7)}
    found, record = perturbed(base, tuned, 1, "pair", dtype="bfloat16")
    assert found[UP] is base[UP]
    assert (record.norm, record.update, record.tensors) == (0, 0, 0)


def test_a_head_that_is_left_out_stays_left_out():
    base = model(1)
    found, _ = perturbed(base, model(2, like=base), 1, "pair")
    assert found.keys() == base.keys()
    assert is_tied(found)


def test_a_head_that_is_stored_and_equal_stays_equal():
    base = model(1)
    tuned = model(2, like=base)
    stored = {**base, HEAD: base[EMBEDDING].clone()}
    for other in (tuned, {**tuned, HEAD: tuned[EMBEDDING]}, {**tuned, HEAD: tuned[EMBEDDING] * 2}):
        found, record = perturbed(stored, other, 1, "pair")
        assert torch.equal(found[HEAD], found[EMBEDDING])
        assert not torch.equal(found[HEAD], base[EMBEDDING])
        assert distance(found[EMBEDDING], base[EMBEDDING]) == pytest.approx(
            distance(tuned[EMBEDDING], base[EMBEDDING]), rel=1e-5
        )
        assert record.norm == pytest.approx(update_norm(base, tuned))


def test_a_head_of_the_tuned_model_alone_leaves_the_base_tied():
    base = model(1)
    tuned = model(2, like=base)
    with_head = {**tuned, HEAD: tuned[EMBEDDING] + 5}
    found, record = perturbed(base, with_head, 1, "pair")
    assert all_equal(found, perturbed(base, tuned, 1, "pair")[0])
    assert record.tensors == 4
    # Its head moved, and nothing of the base can be moved as far: the record says so.
    assert record.update == pytest.approx(update_norm(base, with_head))
    assert record.ratio < 0.1
    alone = {**base, HEAD: base[EMBEDDING] + 5}
    found, record = perturbed(base, alone, 1, "pair")
    assert (record.norm, record.ratio) == (0, 0)
    assert record.update > 0


def test_numbers_that_the_format_cannot_hold_are_refused_by_name():
    base = {UP: torch.full((2, 2), 60000.0)}
    for tuned in ({UP: base[UP] + 10000}, {UP: base[UP] * 2}):
        with pytest.raises(SftbenchError, match=f"{UP} holds numbers that float16 cannot hold"):
            perturbed(base, tuned, 1, "pair", dtype="float16")


def test_a_head_of_the_base_alone_moves_as_far_as_the_tuned_embedding_lies():
    base = model(1, head=True)
    tuned = model(2, like=base)
    found, _ = perturbed(base, tuned, 1, "pair")
    assert distance(found[HEAD], base[HEAD]) == pytest.approx(
        distance(tuned[EMBEDDING], base[HEAD]), rel=1e-5
    )


@pytest.mark.parametrize("rows", [10, 15])
def test_of_a_resized_vocabulary_the_common_rows_change(rows):
    base = model(1, head=True)
    tuned = model(2, head=True, vocabulary=rows)
    common = min(rows, 12)
    found, _ = perturbed(base, tuned, 1, "pair")
    for name in (EMBEDDING, HEAD):
        assert found[name].shape == base[name].shape
        assert distance(found[name][:common], base[name][:common]) == pytest.approx(
            distance(tuned[name][:common], base[name][:common]), rel=1e-5
        )
        assert torch.equal(found[name][common:], base[name][common:])
        assert (found[name][:common] != base[name][:common]).any(dim=1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.layers.1.up.weight": torch.ones(2)}, "different tensors"),
        ({UP: torch.ones(16, 9)}, "differ in shape"),
        ({UP: torch.ones(17, 8)}, "differ in shape"),
    ],
)
def test_models_that_do_not_fit_are_refused(change, words):
    base = model(1)
    with pytest.raises(SftbenchError, match=words) as error:
        perturbed(base, {**base, **change}, 1, "pair", where=("B", "T"))
    assert error.value.where == "T"
