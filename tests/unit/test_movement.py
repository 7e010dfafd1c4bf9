"""How far weights moved: against numpy, and what must hold of ranks and angles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moved import SHAPES, result_of, three_models, weights, write

from sftbench.analysis.movement import MovementResult
from sftbench.checkpoints import movement as room
from sftbench.checkpoints.movement import Ranks, movement, ranks_of
from sftbench.checkpoints.pairing import Pair
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path, Path]:
    return three_models(tmp_path)


def numpy_ranks(update: np.ndarray) -> tuple[float, float]:
    singular = np.linalg.svd(update.astype(np.float64), compute_uv=False)
    shares = singular[singular > 1e-12 * singular[0]] / singular.sum()
    return math.exp(-(shares * np.log(shares)).sum()), (singular**2).sum() / singular[0] ** 2


@pytest.mark.parametrize("block", [1, 40, 1 << 22])
def test_every_figure_is_that_of_numpy(
    models: tuple[Path, Path, Path], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BLOCK", block)
    from safetensors.numpy import load_file

    p, s, t = (load_file(folder / "model.safetensors") for folder in models)
    base, tuned, other = models
    seen: list[int] = []
    found = list(movement(Pair.open(base, tuned), Pair.open(base, other), advance=seen.append))
    assert sorted(one.name for one in found) == sorted(SHAPES)
    assert sum(seen) == sum(one.size for one in found)
    for one in found:
        update, second = s[one.name] - p[one.name], t[one.name] - p[one.name]
        assert one.norm == pytest.approx(np.linalg.norm(update), rel=1e-6)
        assert one.base_norm == pytest.approx(np.linalg.norm(p[one.name]), rel=1e-6)
        assert one.unchanged == (update == 0).sum()
        assert one.zero_base == (p[one.name] == 0).sum()
        assert one.dot == pytest.approx(float((update * second).sum()), rel=1e-4, abs=1e-6)
        assert one.other_norm == pytest.approx(np.linalg.norm(second), rel=1e-6)
        if one.name.endswith("norm.weight"):
            assert one.ranks is None
        else:
            assert one.ranks == pytest.approx(numpy_ranks(update), rel=1e-6)


def test_tensors_are_summed_up_by_layer_and_module(models: tuple[Path, Path, Path]) -> None:
    base, tuned, other = models
    found = result_of(base, tuned, other)
    assert found.against == "other"
    assert found.zero_base == 3
    total = found.total
    assert total.size == sum(math.prod(shape) for shape in SHAPES.values())
    assert total.share == total.enrichment == pytest.approx(1)
    assert sum(one.share or 0 for one in found.modules) == pytest.approx(1)
    by_name = {one.module: one for one in found.modules}
    # Half of one of two equal matrices did not move.
    assert by_name["q_proj"].unchanged == pytest.approx(0.25)
    assert by_name["q_proj"].enrichment == pytest.approx(0.75, abs=0.25)
    assert by_name["norm"].enrichment == 0
    assert by_name["norm"].cosine is None
    assert {(one.layer, one.module) for one in found.cells} == {
        (0, "q_proj"), (0, "up_proj"), (0, "down_proj"), (0, "input_layernorm"), (1, "q_proj"),
    }  # fmt: skip
    # Two random directions: the cosine is noise of the size that is said.
    assert total.cosine is not None
    assert abs(total.cosine) < 4 * total.cosine_chance
    assert MovementResult.model_validate_json(found.model_dump_json()) == found


def test_the_same_update_has_the_cosine_1(models: tuple[Path, Path, Path]) -> None:
    base, tuned, _ = models
    assert result_of(base, tuned, tuned).total.cosine == pytest.approx(1)


def test_the_base_itself_did_not_move(models: tuple[Path, Path, Path]) -> None:
    found = result_of(models[0], models[0])
    assert (found.total.norm, found.total.unchanged) == (0, 1)
    assert found.total.share is None
    assert all(one.effective_rank is None for one in found.tensors)


def test_a_low_rank_update_has_its_rank(tmp_path: Path) -> None:
    base = weights(0)
    random = torch.Generator().manual_seed(9)
    low = torch.randn(30, 4, generator=random) @ torch.randn(4, 12, generator=random)
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    tuned["model.layers.0.mlp.up_proj.weight"] += 0.01 * low
    found = result_of(write(tmp_path / "base", base), write(tmp_path / "tuned", tuned))
    (moved,) = [one for one in found.tensors if one.norm]
    # In fp32 the sum is rounded, which adds a little of every direction.
    assert 1 <= moved.effective_rank <= 4.01
    assert moved.stable_rank <= 4


def test_ranks_are_left_out_on_wish(models: tuple[Path, Path, Path]) -> None:
    found = movement(Pair.open(*models[:2]), ranks=False)
    assert all(one.ranks is None for one in found)


def test_another_architecture_has_no_angle(models: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = {name: torch.ones(7, 3) for name in ("model.layers.0.mlp.up_proj.weight",)}
    folder = write(tmp_path / "foreign", other)
    with pytest.raises(SftbenchError, match="has no tensor"):
        list(movement(Pair.open(*models[:2]), Pair.open(folder, folder)))


def test_a_resized_vocabulary_counts_the_rows_that_both_have(tmp_path: Path) -> None:
    base = weights(0)
    tuned = {name: tensor + 1 for name, tensor in base.items()}
    name = "model.embed_tokens.weight"
    tuned[name] = torch.cat([tuned[name], torch.zeros(6, 12)])
    found = result_of(write(tmp_path / "base", base), write(tmp_path / "tuned", tuned))
    assert next(one for one in found.tensors if one.name == name).size == 50 * 12


@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-3, 1e3), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_ranks_have_their_bounds_and_no_scale(m: int, n: int, scale: float, seed: int) -> None:
    matrix = torch.randn(m, n, generator=torch.Generator().manual_seed(seed)).double()
    found = ranks_of(matrix.T @ matrix)
    most = min(m, n)
    assert 1 - 1e-9 <= found.stable <= most + 1e-6
    assert found.stable - 1e-6 <= found.effective * most  # both are at most the rank
    assert 1 - 1e-9 <= found.effective <= most + 1e-6
    again = ranks_of((scale * matrix).T @ (scale * matrix))
    assert again == pytest.approx(found, rel=1e-6)
    turned = matrix[torch.randperm(m, generator=torch.Generator().manual_seed(seed))]
    assert ranks_of(turned.T @ turned) == pytest.approx(found, rel=1e-6)
    assert isinstance(found, Ranks)


@pytest.mark.parametrize(("fall", "error"), [(3, 1e-12), (6, 1e-9), (9, 1e-5), (12, 1e-5)])
def test_the_gram_matrix_costs_what_is_said(fall: int, error: float) -> None:
    random = np.random.default_rng(fall)
    left, right = (np.linalg.qr(random.standard_normal((side, 64)))[0] for side in (128, 64))
    update = (left * np.logspace(0, -fall, 64)) @ right.T
    found = ranks_of(torch.from_numpy(update.T @ update))
    singular = np.linalg.svd(update, compute_uv=False)
    shares = singular / singular.sum()
    assert found.effective == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=error)
    assert found.stable == pytest.approx((singular**2).sum() / singular[0] ** 2, rel=1e-12)


def test_an_update_that_bfloat16_left_almost_empty(tmp_path: Path) -> None:
    base = {name: tensor.bfloat16() for name, tensor in weights(0).items()}
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    tuned["model.layers.0.mlp.up_proj.weight"][3, 4] += 1
    found = result_of(write(tmp_path / "base", base), write(tmp_path / "tuned", tuned))
    (moved,) = [one for one in found.tensors if one.norm]
    assert (moved.unchanged, moved.size - moved.unchanged) == (359, 1)
    assert (moved.effective_rank, moved.stable_rank) == (1, 1)


def test_numbers_without_rows_and_tensors_without_numbers(tmp_path: Path) -> None:
    extra = {"model.layers.0.scale": torch.tensor(1.0), "model.layers.0.none": torch.zeros(0, 4)}
    base = weights(0) | extra
    tuned = base | {"model.layers.0.scale": torch.tensor(3.0)}
    found = result_of(write(tmp_path / "base", base), write(tmp_path / "tuned", tuned))
    assert "model.layers.0.none" not in {one.name for one in found.tensors}
    scale = next(one for one in found.tensors if one.module == "scale")
    assert (scale.size, scale.norm, scale.smaller) == (1, 2, None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["tuned", "other"])
def test_a_model_that_diverged_is_named(
    models: tuple[Path, Path, Path], tmp_path: Path, where: str, value: float
) -> None:
    base, tuned, other = models
    bad = weights(3)
    bad["model.layers.0.mlp.down_proj.weight"][1, 1] = value
    folder = write(tmp_path / "bad", bad)
    pairs = (base, folder, other) if where == "tuned" else (base, tuned, folder)
    with pytest.raises(SftbenchError, match=r"down_proj.weight holds 1 NaN") as error:
        result_of(*pairs)
    assert error.value.where == str(folder)


class TestHead:
    EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

    def model(self, folder: Path, seed: int, *, head: int | None) -> Path:
        tensors = weights(seed)
        if head is not None:
            own = torch.randn(50, 12, generator=torch.Generator().manual_seed(head))
            tensors[self.HEAD] = own
        return write(folder, tensors)

    def test_tied_heads_are_counted_once(self, tmp_path: Path) -> None:
        base = weights(0)
        tuned = weights(1)
        tuned[self.HEAD] = tuned[self.EMBEDDING].clone()
        found = result_of(write(tmp_path / "base", base), write(tmp_path / "tuned", tuned))
        assert self.HEAD not in {one.name for one in found.tensors}

    def test_an_own_head_is_held_against_the_embedding_that_others_tie(
        self, tmp_path: Path
    ) -> None:
        base = self.model(tmp_path / "base", 0, head=None)
        tuned = self.model(tmp_path / "tuned", 1, head=7)
        other = self.model(tmp_path / "other", 2, head=None)
        found = {one.name: one for one in result_of(base, tuned, other).tensors}
        first, second = weights(0)[self.EMBEDDING], weights(2)[self.EMBEDDING]
        assert found[self.HEAD].other_norm == pytest.approx(float((second - first).norm()))
        assert found[self.EMBEDDING].other_norm == found[self.HEAD].other_norm


def test_of_resized_vocabularies_the_rows_that_all_have_make_the_angle(tmp_path: Path) -> None:
    name = "model.embed_tokens.weight"
    base = weights(0)
    tuned = {key: tensor + 1 for key, tensor in base.items()}
    other = dict(tuned)
    tuned[name] = torch.cat([tuned[name], torch.zeros(6, 12)])
    other[name] = other[name][:40]
    folders = [
        write(tmp_path / key, value)
        for key, value in (("base", base), ("tuned", tuned), ("other", other))
    ]
    found = {one.name: one for one in result_of(*folders).tensors}
    assert found[name].dot == pytest.approx(40 * 12, rel=1e-5)


def test_the_other_model_is_looked_at_one_tensor_at_a_time(
    models: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned, other = models
    second = Pair.open(base, other)
    looked: list[str] = []
    flat = second.tuned.flat
    monkeypatch.setattr(second.tuned, "flat", lambda name: (looked.append(name), flat(name))[1])
    found = movement(Pair.open(base, tuned), second)
    next(found)
    assert len(looked) == 1
    list(found)
    assert len(looked) == len(set(looked)) == len(SHAPES)


def test_blocks_of_other_families_have_numbers_too(tmp_path: Path) -> None:
    tensors = {
        f"{start}.{layer}.attn.c_attn.weight": torch.ones(4, 4) * layer
        for start in ("h", "transformer.h", "transformer.blocks", "gpt_neox.layers")
        for layer in (0, 11)
    }
    folder = write(tmp_path / "model", tensors)
    found = result_of(folder, folder)
    assert {(one.layer, one.module) for one in found.cells} == {(0, "c_attn"), (11, "c_attn")}
