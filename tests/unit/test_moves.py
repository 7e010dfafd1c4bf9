"""Criteria of other papers, each against its definition written again; vocabularies and heads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from two_models import bits, pair_of, restored

from sftbench.checkpoints.criteria import gavish_donoho
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"
BIAS = "model.layers.1.self_attn.q_proj.bias"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def random_tensor(seed, *shape, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def models():
    """Return a base and a tuned model with an update of about a hundredth of the weights."""
    base = {
        UP: random_tensor(1, 40, 25, scale=0.02),
        DOWN: random_tensor(2, 25, 40, scale=0.05),
        BIAS: random_tensor(3, 60, scale=0.1),
        EMBEDDING: random_tensor(4, 7, 5),
    }
    tuned = {name: p + 2e-4 * random_tensor(9, *p.shape) for name, p in base.items()}
    return base, tuned


def one_of(models, rule):
    ((planned, result),) = restored(pair_of(*models), rule)
    return planned.report, result


def norm(*tensors):
    return math.sqrt(sum(float((tensor.double() ** 2).sum()) for tensor in tensors))


def moved_norm(models, result, names=(UP, DOWN, BIAS)):
    """Return the way from the tuned model over the norm of the update."""
    base, tuned = models
    way = norm(*(result[name].double() - tuned[name].double() for name in names))
    return way / norm(*(tuned[name].double() - base[name].double() for name in names))


# --- WiSE-FT -------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [12.5, 50, 90])
def test_interpolation_is_the_line_between_both(models, percent):
    base, tuned = models
    report, result = one_of(models, f"interpolation,{percent}%")
    for name in (UP, DOWN, BIAS):
        share = percent / 100
        line = (1 - share) * tuned[name].double() + share * base[name].double()
        assert torch.allclose(result[name].double(), line, rtol=1e-6, atol=1e-9)
    assert torch.equal(result[EMBEDDING], tuned[EMBEDDING])
    assert (report.l1_removed, report.l2_removed) == pytest.approx((percent / 100,) * 2, rel=1e-3)
    assert (report.equals_base, report.equals_tuned) == (False, False)
    assert report.threshold is None


def test_interpolation_by_nothing_is_the_tuned_model(models):
    report, result = one_of(models, "interpolation,0%")
    assert all(bits(result[name]) == bits(tensor) for name, tensor in models[1].items())
    assert (report.count, report.l2_removed, report.equals_tuned) == (0, 0.0, True)


def test_interpolation_in_bf16_is_rounded_once():
    base, tuned = ({UP: torch.tensor([[p]]).bfloat16()} for p in (1.0, 1.0078125))
    _, result = one_of((base, tuned), "interpolation,40%")
    assert result[UP].dtype == torch.bfloat16
    assert result[UP].item() == torch.tensor(1.0046875).bfloat16().item()


# --- DARE ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "share"), [("30%", 0.3), ("90%", 0.9), ("50%norm", 0.2)])
def test_dare_drops_a_share_and_enlarges_the_rest(models, size, share):
    base, tuned = models
    report, result = one_of(models, f"dare,{size}")
    count = 0
    for name in (UP, DOWN, BIAS):
        p, s, v = (one[name].double() for one in (base, tuned, result))
        dropped = result[name] == base[name]
        count += int(dropped.sum())
        assert int(dropped.sum()) == int(share * p.numel() + 1e-9)
        kept = p + (s - p) / (1 - int(dropped.sum()) / p.numel())
        assert torch.allclose(v[~dropped], kept[~dropped], rtol=1e-5, atol=1e-8)
    assert report.count == count
    assert torch.equal(result[EMBEDDING], tuned[EMBEDDING])


@pytest.mark.parametrize(("size", "moved"), [("50%", 1.0), ("20%", 0.5), ("50%norm", 0.5)])
def test_dare_moves_the_model_as_far_as_it_says(models, size, moved):
    """By sqrt(q / (1 - q)) of the update's norm, where a share q is dropped."""
    report, result = one_of(models, f"dare,{size}")
    assert report.l2_removed == pytest.approx(moved, rel=0.05)
    assert report.l2_removed == pytest.approx(moved_norm(models, result), rel=1e-3)


def test_the_mean_of_many_dares_is_the_tuned_model(models):
    base, tuned = models
    draws = 30
    found = restored(pair_of(*models), *(f"dare,40%,draw={k}" for k in range(1, draws + 1)))
    for name in (UP, DOWN):
        mean = torch.stack([result[name].double() for _, result in found]).mean(0)
        d = (tuned[name] - base[name]).double()
        errors = (mean - tuned[name]) / d.abs() * math.sqrt(draws * 0.6 / 0.4)
        assert float(errors.mean()) == pytest.approx(0, abs=0.15)
        assert float(errors.std()) == pytest.approx(1, abs=0.1)


def test_dare_of_nothing_is_the_tuned_model_to_the_bit():
    """Where p + (s - p) is not s."""
    models = {UP: torch.tensor([[1e8, 3.0]])}, {UP: torch.tensor([[1.0, 2.0]])}
    report, result = one_of(models, "dare,0%")
    assert bits(result[UP]) == bits(models[1][UP])
    assert (report.equals_tuned, report.l2_removed) == (True, 0.0)


@pytest.mark.parametrize("percent", ["0.07", "12.345678", "29"])
def test_dare_drops_exactly_so_many(percent):
    size = 10_000
    models = {UP: torch.zeros(1, size)}, {UP: torch.ones(1, size)}
    report, _ = one_of(models, f"dare,{percent}%")
    assert report.count == int(float(percent) * 100 + 1e-6)


# --- DG-Hard -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "omega"), [(0.05, 1.5194), (0.25, 1.8371), (0.5, 2.1711), (0.7, 2.4339), (1, 2.858)]
)
def test_the_threshold_of_gavish_and_donoho(beta, omega):
    """Their table; and their formula for any shape."""
    assert gavish_donoho(int(1000 * beta), 1000) == pytest.approx(omega, abs=4e-4)
    assert gavish_donoho(1000, int(1000 * beta)) == gavish_donoho(int(1000 * beta), 1000)


@pytest.mark.parametrize("rows", [1, 3, 30, 77, 100])
def test_the_threshold_is_near_their_approximation(rows):
    beta = rows / 100
    approximation = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    assert gavish_donoho(rows, 100) == pytest.approx(approximation, abs=0.02)


def truncated(p, s, keep):
    """Return p plus the delta of which `keep` says, by its singular values, which stay."""
    delta = s.double().numpy() - p.double().numpy()
    values, vectors = np.linalg.eigh(delta.T @ delta)
    sizes = np.sqrt(np.maximum(values, 0))[::-1][: min(delta.shape)]
    kept = vectors[:, ::-1][:, : min(delta.shape)][:, keep(sizes)]
    return p.double().numpy() + delta @ kept @ kept.T


@pytest.mark.parametrize("shape", [(40, 25), (25, 40), (30, 30)])
def test_spectral_agrees_with_another_way_to_the_same(shape):
    p = random_tensor(5, *shape, scale=0.02)
    strong = random_tensor(6, shape[0], 2) @ random_tensor(7, 2, shape[1])
    s = p + 1e-3 * strong + 1e-4 * random_tensor(8, *shape)
    omega = gavish_donoho(*shape)
    # Of an even number of singular values torch takes the lower of the two in the middle.
    expected = truncated(p, s, lambda sizes: sizes > omega * np.sort(sizes)[(len(sizes) - 1) // 2])
    report, result = one_of(({UP: p}, {UP: s}), "spectral")
    assert np.allclose(result[UP].numpy(), expected, rtol=1e-4, atol=1e-7)
    assert report.l2_removed == pytest.approx(
        np.linalg.norm(expected - s.double().numpy()) / norm(s - p), rel=1e-3
    )


@pytest.mark.parametrize("shape", [(80, 50), (50, 80)])
def test_spectral_recovers_a_planted_update_from_noise(shape):
    planted = 0.1 * random_tensor(1, shape[0], 3) @ random_tensor(2, 3, shape[1])
    noise = 0.05 * random_tensor(3, *shape)
    base, tuned = {UP: torch.zeros(shape)}, {UP: planted + noise}
    _, result = one_of((base, tuned), "spectral")
    assert torch.linalg.matrix_rank(result[UP].double(), rtol=1e-4) == 3
    assert norm(result[UP] - planted) < 0.4 * norm(noise)
    _, without = one_of((base, {UP: noise}), "spectral")
    assert norm(without[UP]) < 0.4 * norm(noise), "noise alone goes, but for its largest part"


@pytest.mark.parametrize("percent", [10, 40, 80])
def test_spectral_by_norm_drops_the_smallest_parts_that_fit(models, percent):
    base, tuned = models

    def keep(sizes):
        below = np.sqrt(np.cumsum(sizes[::-1] ** 2))[::-1]
        return below > percent / 100 * below[0]

    report, result = one_of(models, f"spectral,{percent}%")
    for name in (UP, DOWN):
        expected = truncated(base[name], tuned[name], keep)
        assert np.allclose(result[name].numpy(), expected, rtol=1e-4, atol=1e-7)
        assert moved_norm(models, result, (name,)) <= percent / 100 * (1 + 1e-4)
    assert bits(result[BIAS]) == bits(tuned[BIAS]), "no matrix"
    assert 0 < report.l2_removed <= percent / 100


def test_spectral_of_everything_and_of_nothing(models):
    _, everything = one_of(models, "spectral,100%,match=mlp")
    assert all(torch.equal(everything[name], models[0][name]) for name in (UP, DOWN))
    _, nothing = one_of(models, "spectral,0%")
    assert all(torch.allclose(nothing[name], models[1][name], atol=1e-7) for name in (UP, DOWN))
    report, same = one_of((models[0], models[0]), "spectral")
    assert report.equals_base
    assert report.equals_tuned
    assert torch.equal(same[UP], models[0][UP])


# --- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [20, 100])
def test_noise_moves_every_tensor_by_a_share_of_its_update(models, percent):
    base, tuned = models
    report, result = one_of(models, f"noise,{percent}%")
    for name in (UP, DOWN, BIAS):
        assert moved_norm(models, result, (name,)) == pytest.approx(percent / 100, rel=1e-3)
        d, way = tuned[name] - base[name], result[name] - tuned[name]
        assert abs(float((d * way).sum())) < 0.35 * norm(d) * norm(way), "in no direction of it"
    assert report.l2_removed == pytest.approx(percent / 100, rel=1e-3)
    assert (report.equals_base, report.equals_tuned) == (False, False)


def test_noise_draws_differ_and_are_made_again(models):
    (_, one), (_, two), (_, again) = restored(
        pair_of(*models), "noise,20%", "noise,20%,draw=2", "noise,20%"
    )
    assert torch.equal(one[UP], again[UP])
    ways = [(result[UP] - models[1][UP]).flatten() for result in (one, two)]
    assert abs(float(torch.nn.functional.cosine_similarity(*ways, dim=0))) < 0.15


def test_noise_leaves_a_tensor_alone_that_did_not_change(models):
    base, tuned = models
    _, result = one_of((base, {**tuned, DOWN: base[DOWN]}), "noise,100%")
    assert torch.equal(result[DOWN], base[DOWN])
    assert not torch.equal(result[UP], tuned[UP])


# --- TIES and FAPM -------------------------------------------------------------------------------


def test_ties_keeps_the_largest_updates_of_the_whole_model(models):
    """Yadav et al. 2023, section 3: of the task vector the top k % by magnitude, others to zero."""
    base, tuned = models
    report, result = one_of(models, "ties,80%")
    flat = torch.cat([(tuned[name] - base[name]).abs().flatten() for name in (UP, DOWN, BIAS)])
    kept = torch.cat([(result[name] != base[name]).flatten() for name in (UP, DOWN, BIAS)])
    assert int(kept.sum()) == math.ceil(0.2 * len(flat))
    assert flat[kept].min() >= flat[~kept].max()
    assert report.l2_removed == pytest.approx(norm(flat[~kept]) / norm(flat), rel=1e-5)


def test_fapm_keeps_the_best_tenth_of_every_tensor(models):
    """FAPM: |d| - mean|W| |d| / |W| decides, so that small weights keep the base's value."""
    base, tuned = models
    _, result = one_of(models, "fapm,90%")
    for name in (UP, DOWN, BIAS):
        w, d = base[name].double().numpy(), (tuned[name] - base[name]).double().numpy()
        score = (np.abs(d) - np.abs(w).mean() * np.abs(d) / np.abs(w)).flatten()
        kept = np.zeros(score.size, bool)
        kept[np.argsort(-score)[: score.size - int(0.9 * score.size)]] = True
        found = (result[name] != base[name]).flatten().numpy()
        assert found.sum() == kept.sum()
        assert (found != kept).sum() <= 2, "but for rounding"


# --- what holds for every criterion --------------------------------------------------------------

EVERY = (
    "relative,30%", "absolute,30%norm,bf16", "random,40%changed", "lowest-relative,20%,per-tensor",
    "ties,50%", "fapm,50%", "interpolation,50%", "dare,50%", "spectral", "spectral,50%",
    "noise,50%",
)  # fmt: skip
RANKED = tuple(rule for rule in EVERY if rule.split(",")[0] not in
               ("interpolation", "dare", "spectral", "noise"))  # fmt: skip

values = st.sampled_from((0.0, 0.5, -1.5, 1.0, 1e-3, 3.0))
vectors = st.lists(st.tuples(values, values), min_size=1, max_size=6)
unchanged = st.lists(values.map(lambda value: (value, value)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    vectors,
    vectors | unchanged,
    st.sampled_from(
        [*EVERY, "interpolation,0%", "interpolation,100%", "relative,0%", "relative,100%",
         "noise,0%", "dare,0%", "spectral,100%"]
    ),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)  # fmt: skip
def test_reports_say_truly_what_a_variant_equals(inside, outside, rule, dtype):
    names = {UP: inside, EMBEDDING: outside}
    base = {name: torch.tensor([[p for p, _ in pairs]]) for name, pairs in names.items()}
    tuned = {name: torch.tensor([[s for _, s in pairs]]).to(dtype) for name, pairs in names.items()}
    report, result = one_of((base, tuned), rule)
    base = {name: tensor.to(dtype) for name, tensor in base.items()}
    changed = sum(int((result[name] != tuned[name]).sum()) for name in result)
    if not rule.startswith("dare"):  # counted as if no enlarged scalar rounded to itself
        assert report.changed == changed
        assert report.equals_tuned == (changed == 0)
        assert report.equals_base == all(bool((result[n] == base[n]).all()) for n in result)
    elif report.equals_tuned:
        assert changed == 0


@pytest.mark.parametrize("rule", EVERY)
def test_every_criterion_takes_scalars_without_dimensions_and_empty_tensors(models, rule):
    more = {"model.layers.2.scale": torch.tensor(2.0), "model.layers.2.none": torch.empty(0, 3)}
    base, tuned = ({**one, **more} for one in models)
    tuned["model.layers.2.scale"] = torch.tensor(2.5)
    _, result = one_of((base, tuned), rule)
    assert {name: tensor.shape for name, tensor in result.items()} == {
        name: tensor.shape for name, tensor in tuned.items()
    }


@pytest.mark.parametrize("rule", EVERY)
def test_a_part_of_the_way_is_neither_model(models, rule):
    """Though the base has everything outside the region, and every scalar of it may have moved."""
    base, tuned = models
    report, _ = one_of((base, {**tuned, EMBEDDING: base[EMBEDDING]}), rule)
    assert (report.equals_base, report.equals_tuned) == (False, False)


@pytest.mark.parametrize("rule", EVERY)
def test_nothing_outside_the_region_moves(models, rule):
    tuned = models[1]
    _, result = one_of(models, f"{rule},match=down")
    assert bits(result[DOWN]) != bits(tuned[DOWN])
    assert all(bits(result[name]) == bits(tuned[name]) for name in tuned.keys() - {DOWN})


# --- vocabularies --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", EVERY)
@pytest.mark.parametrize(("before", "after"), [(7, 12), (12, 7)])
def test_of_a_resized_vocabulary_the_new_rows_stay_tuned(rule, before, after):
    base = {UP: torch.ones(4, 5), EMBEDDING: random_tensor(1, 12, 5)[:before]}
    tuned = {
        UP: torch.ones(4, 5) + 0.1 * random_tensor(2, 4, 5),
        EMBEDDING: random_tensor(3, 12, 5)[:after],
    }
    report, result = one_of((base, tuned), f"{rule},all")
    assert result[EMBEDDING].shape == (after, 5)
    assert torch.equal(result[EMBEDDING][7:], tuned[EMBEDDING][7:])
    assert not torch.equal(result[EMBEDDING][:7], tuned[EMBEDDING][:7])
    assert report.region == 20 + 35
    assert not report.equals_base


@pytest.mark.parametrize("rule", RANKED)
def test_a_full_restore_of_a_larger_vocabulary_is_not_the_base(rule):
    base = {UP: torch.ones(4, 5), EMBEDDING: random_tensor(1, 7, 5)}
    tuned = {UP: torch.ones(4, 5) + 1, EMBEDDING: random_tensor(3, 12, 5)}
    criterion = rule.split(",")[0]
    report, result = one_of((base, tuned), f"{criterion},100%,all")
    assert torch.equal(result[EMBEDDING][:7], base[EMBEDDING])
    assert torch.equal(result[EMBEDDING][7:], tuned[EMBEDDING][7:])
    assert not report.equals_base


# --- output heads --------------------------------------------------------------------------------


def model(change, head=None):
    tensors = {
        EMBEDDING: torch.tensor([[1.0, 2.0], [3.0, 4.0]]) + change,
        UP: torch.ones(2, 2) + change,
    }
    return tensors if head is None else {**tensors, HEAD: tensors[EMBEDDING] + head}


@pytest.mark.parametrize("base", [model(0), model(0, head=0)], ids=["tied", "stored"])
@pytest.mark.parametrize("region", ["all", "embeddings"])
def test_a_stored_head_that_is_the_embedding_follows_it(base, region):
    report, result = one_of((base, model(1, head=0)), f"relative,50%,{region}")
    assert bits(result[HEAD]) == bits(result[EMBEDDING])
    assert not torch.equal(result[EMBEDDING], model(1)[EMBEDDING])
    assert report.region == (4 if region == "embeddings" else 8), "the head is not counted again"


@pytest.mark.parametrize("rule", EVERY)
def test_a_head_follows_under_every_criterion(rule):
    _, result = one_of((model(0), model(1, head=0)), f"{rule},all")
    assert bits(result[HEAD]) == bits(result[EMBEDDING])


def test_a_tied_head_stays_where_only_the_blocks_are_restored():
    report, result = one_of((model(0, head=0), model(1, head=0)), "relative,100%")
    assert torch.equal(result[HEAD], model(1)[EMBEDDING])
    assert torch.equal(result[UP], torch.ones(2, 2))
    assert report.region == 4


def test_a_head_of_its_own_goes_back_to_the_embedding_that_it_was():
    report, result = one_of((model(0), model(1, head=5)), "relative,100%,all")
    assert torch.equal(result[HEAD], model(0)[EMBEDDING])
    assert report.region == 12
    assert report.equals_base
    report, result = one_of((model(0), model(1, head=5)), "relative,100%")
    assert torch.equal(result[HEAD], model(1, head=5)[HEAD])
    assert not report.equals_base


def test_a_head_that_the_base_alone_stores_is_not_made():
    report, result = one_of((model(0, head=0), model(1)), "relative,100%,all")
    assert HEAD not in result
    assert report.equals_base


@pytest.mark.parametrize("tuned", [model(0), model(0, head=0)], ids=["not stored", "stored"])
@pytest.mark.parametrize("region", ["all", "blocks"])
def test_a_model_that_lost_the_bases_own_head_never_equals_the_base(tuned, region):
    report, _ = one_of((model(0, head=5), tuned), f"relative,100%,{region}")
    assert not report.equals_base


def test_a_head_alone_can_be_a_region():
    _, result = one_of((model(0, head=1), model(1, head=2)), "relative,100%,match=lm_head")
    assert torch.equal(result[HEAD], model(0, head=1)[HEAD])
    assert torch.equal(result[EMBEDDING], model(1)[EMBEDDING])
    with pytest.raises(SftbenchError, match="no tensor is in the region match=lm_head"):
        one_of((model(0), model(1, head=0)), "relative,100%,match=lm_head")
