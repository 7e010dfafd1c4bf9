"""How far weights moved: against numpy, and what must hold of ranks and angles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sftbench.analysis.movement import MovementResult, movement_result
from sftbench.checkpoints import movement as room
from sftbench.checkpoints.movement import Ranks, movement, ranks_of
from sftbench.checkpoints.pairing import Pair
from sftbench.common.errors import SftbenchError
from sftbench.compare.movement import tensor_record

pytestmark = pytest.mark.unit

SHAPES = {
    "model.embed_tokens.weight": (50, 12),
    "model.layers.0.self_attn.q_proj.weight": (12, 12),
    "model.layers.0.mlp.up_proj.weight": (30, 12),
    "model.layers.0.mlp.down_proj.weight": (12, 30),
    "model.layers.0.input_layernorm.weight": (12,),
    "model.layers.1.self_attn.q_proj.weight": (12, 12),
    "model.norm.weight": (12,),
}


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "llama", "tie_word_embeddings": true}')
    return folder


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path, Path]:
    base = weights(0)
    base["model.norm.weight"][:3] = 0
    tuned = {name: tensor + 0.1 * weights(1)[name] for name, tensor in base.items()}
    tuned["model.norm.weight"] = base["model.norm.weight"].clone()
    tuned["model.layers.1.self_attn.q_proj.weight"][:6] = base[
        "model.layers.1.self_attn.q_proj.weight"
    ][:6]
    other = {name: tensor + 0.1 * weights(2)[name] for name, tensor in base.items()}
    return (
        write(tmp_path / "base", base),
        write(tmp_path / "tuned", tuned),
        write(tmp_path / "other", other),
    )


def numpy_ranks(update: np.ndarray) -> tuple[float, float]:
    singular = np.linalg.svd(update.astype(np.float64), compute_uv=False)
    shares = singular[singular > 1e-12 * singular[0]] / singular.sum()
    return math.exp(-(shares * np.log(shares)).sum()), (singular**2).sum() / singular[0] ** 2


def result_of(base: Path, tuned: Path, other: Path | None = None) -> MovementResult:
    second = None if other is None else Pair.open(base, other)
    found = [tensor_record(one) for one in movement(Pair.open(base, tuned), second)]
    return movement_result(found, None if other is None else other.name)


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
