"""Plans of restores: what is reported, what is refused, and what other processes make again."""

from __future__ import annotations

import json
import math

import pytest
import torch
from two_models import bits, pair_of, restored

from sftbench.checkpoints.planning import count_rankings, plan, planned_of
from sftbench.checkpoints.restore_report import RestoreReport
from sftbench.checkpoints.restored import RestoredWeights, restored_weights
from sftbench.checkpoints.rules import parse_rule
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.10.mlp.down_proj.weight"
QUERY = "model.layers.2.self_attn.q_proj.weight"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight"

EVERY = (
    "relative,30%", "absolute,30%norm,bf16", "random,40%changed,draw=2", "lowest-relative,20%",
    "ties,50%,per-tensor", "fapm,50%", "interpolation,50%", "dare,50%", "spectral",
    "spectral,50%", "noise,50%",
)  # fmt: skip


def report_of(base, tuned, rule):
    (planned,) = plan(pair_of(base, tuned), [parse_rule(rule)])
    return planned.report


def error_of(base, tuned, rule="relative,50%"):
    pair = pair_of(base, tuned)
    with pytest.raises(SftbenchError) as error:
        plan(pair, [parse_rule(rule)])
    return error.value, pair


@pytest.fixture(scope="module")
def null():
    """Return two models whose update has nothing to do with their weights."""
    generator = torch.Generator().manual_seed(0)
    scales = {UP: (0.02, 1e-4), QUERY: (0.05, 3e-4), DOWN: (0.01, 2e-4)}
    base = {name: a * torch.randn(200, 150, generator=generator) for name, (a, _) in scales.items()}
    tuned = {
        name: p + scales[name][1] * torch.randn(200, 150, generator=generator)
        for name, p in base.items()
    }
    outside = {EMBEDDING: torch.ones(4, 3), NORM: torch.ones(3)}
    return {**base, **outside}, {**tuned, **outside}


# --- what is counted -----------------------------------------------------------------------------


def test_unchanged_and_zero_base_scalars_are_told():
    base = {UP: torch.tensor([[0.0, 1.0, 1.0, 1.0]])}
    tuned = {UP: torch.tensor([[1e-4, 1.5, 1.0, 1.0]])}
    report = report_of(base, tuned, "relative,25%")
    assert (report.region, report.count, report.share) == (4, 1, 0.25)
    assert (report.unchanged, report.unchanged_share) == (2, 0.5)
    assert (report.zero_base, report.zero_base_restored) == (1, 1)
    assert report.zero_base_change_share == pytest.approx(1.0, abs=1e-4)
    assert report.change_share == pytest.approx(1.0, abs=1e-4)
    assert report.change_share_without_zero_base == 0.0
    assert report.threshold == pytest.approx(1e4)
    assert report.l1_removed == pytest.approx(1e-4 / (0.5 + 1e-4))
    (warning,) = report.warnings()
    assert warning.startswith("1 scalars that are zero in the base hold 100.0% of the summed")


def test_the_share_of_the_changed_scalars():
    base = {UP: torch.ones(1, 8)}
    tuned = {UP: torch.tensor([[1.5, 1.4, 1.3, 1.2, 1.0, 1.0, 1.0, 1.0]])}
    pair = pair_of(base, tuned)
    rules = ["relative,25%", "relative,25%changed", "relative,100%changed", "relative,75%"]
    found = [one.report for one in plan(pair, [parse_rule(rule) for rule in rules])]
    assert [report.count for report in found] == [2, 1, 4, 6]
    assert [report.changed_share for report in found] == [0.5, 0.25, 1.0, 1.0]
    assert [report.changed for report in found] == [2, 1, 4, 4]
    assert [report.equals_base for report in found] == [False, False, True, True]
    assert {report.unchanged for report in found} == {4}


def test_many_unchanged_scalars_are_a_warning_where_they_would_be_ranked():
    base = {UP: torch.ones(1, 4)}
    tuned = {UP: torch.tensor([[0.5, 1.0, 1.0, 1.0]])}
    report = report_of(base, tuned, "relative,10%")
    (warning,) = report.warnings()[1:]
    assert warning.startswith("75.0% of the ranked scalars are unchanged in fp32: they rank last")
    for rule in ("relative,10%changed", "random,10%", "ties,10%"):
        assert len(report_of(base, tuned, rule).warnings()) == 1, "that nothing was changed"


def test_bf16_arithmetic_does_not_see_small_updates():
    base = {UP: torch.ones(10, 100)}
    tuned = {UP: torch.ones(10, 100) + 1e-4}
    assert report_of(base, tuned, "relative,10%").unchanged == 0
    report = report_of(base, tuned, "relative,10%,bf16")
    assert (report.unchanged, report.changed, report.count) == (1000, 100, 100)
    assert report_of(base, tuned, "relative,10%changed,bf16").count == 0


def test_a_full_restore_equals_the_base_only_with_the_rest_unchanged():
    base = {UP: torch.tensor([[1.0, 2.0]]), EMBEDDING: torch.ones(1, 1)}
    tuned = {UP: torch.tensor([[1.5, 2.0]]), EMBEDDING: torch.ones(1, 1)}
    whole = report_of(base, tuned, "relative,100%")
    assert (whole.equals_base, whole.equals_tuned, whole.threshold) == (True, False, None)
    assert whole.warnings() == ["This variant equals the base: the whole update is gone."]
    assert report_of(base, tuned, "relative,50%").equals_base, "the only changed scalar is restored"
    other = {**tuned, EMBEDDING: torch.zeros(1, 1)}
    assert not report_of(base, other, "relative,100%").equals_base
    assert report_of(base, other, "relative,100%,all").equals_base


def test_a_restore_of_nothing_equals_the_tuned_model():
    base, tuned = {UP: torch.tensor([[1.0, 2.0]])}, {UP: torch.tensor([[1.5, 2.5]])}
    for rule in ("relative,0%", "relative,0%norm", "relative,0%changed", "relative,49%"):
        nothing = report_of(base, tuned, rule)
        assert (nothing.count, nothing.threshold, nothing.changed) == (0, None, 0)
        assert nothing.warnings() == [
            "This variant equals the tuned model: the restore changed nothing."
        ]


@pytest.mark.parametrize("rule", EVERY)
def test_base_and_tuned_alike(rule):
    base = {UP: torch.tensor([[1.0, 2.0], [-3.0, 0.0]]), EMBEDDING: torch.ones(2, 2)}
    alike = report_of(base, base, rule)
    assert alike.change_share == (None if rule.startswith(("spectral", "noise")) else 0)
    assert (alike.l1_removed, alike.l2_removed, alike.changed) == (0, 0, 0)
    assert alike.equals_tuned
    assert alike.null is None
    if rule != "dare,50%":
        assert alike.equals_base
        assert alike.warnings() == [
            "Base and tuned are the same model: there is nothing to restore."
        ]


def test_a_restored_base_is_rounded_to_the_tuned_dtype():
    base = {UP: torch.tensor([[0.1, 0.2]])}
    tuned = {UP: torch.tensor([[0.5, 0.6]]).bfloat16()}
    ((planned, result),) = restored(pair_of(base, tuned), "relative,100%")
    assert torch.equal(result[UP], base[UP].bfloat16())
    assert planned.report.equals_base


def test_a_report_is_plain_json(null):
    for rule in EVERY:
        report = report_of(*null, rule)
        text = json.dumps(report.record(), allow_nan=False)
        assert RestoreReport.of(json.loads(text)) == report
        assert report.rule == parse_rule(rule).text


# --- how it spreads, and what the null model says ------------------------------------------------


@pytest.mark.parametrize("rule", EVERY)
def test_the_spread_is_shares_of_one(null, rule):
    report = report_of(*null, f"{rule},all")
    assert [part.name for part in report.layers] == ["outside", "layer 0", "layer 2", "layer 10"]
    assert {part.name for part in report.modules} == {
        "up_proj", "down_proj", "q_proj", "embed_tokens", "input_layernorm"
    }  # fmt: skip
    for parts in (report.layers, report.modules):
        assert sum(part.scalars for part in parts) == pytest.approx(1)
        assert sum(part.restored for part in parts) == pytest.approx(1)
        if report.null is not None:
            assert sum(part.null for part in parts) == pytest.approx(1)


@pytest.mark.parametrize("rule", ["relative,20%", "absolute,20%", "lowest-relative,20%", "ties,60%",
                                  "relative,40%norm", "relative,20%changed"])  # fmt: skip
def test_a_null_update_is_restored_as_the_null_model_says(null, rule):
    report = report_of(*null, rule)
    assert report.null["scalars"] == pytest.approx(report.share)
    assert report.null["l1"] == pytest.approx(report.l1_removed, abs=0.01)
    assert report.null["l2"] == pytest.approx(report.l2_removed, abs=0.01)
    # The sum of r hangs on a few scalars next to zero.
    assert report.null["change"] == pytest.approx(report.change_share, abs=0.1)
    for part in (*report.layers, *report.modules):
        assert part.null == pytest.approx(part.restored, abs=0.01)
        assert part.scalars == pytest.approx(1 / 3)


def test_an_update_of_the_small_weights_is_not_what_the_null_model_says(null):
    base, tuned = null
    tuned = {**tuned, UP: base[UP] + 1e-4 * (base[UP].abs() < 0.005)}
    report = report_of(base, tuned, "relative,5%,match=up_proj")
    assert abs(report.null["l1"] - report.l1_removed) > 0.1


@pytest.mark.parametrize(
    "rule", ["random,20%", "fapm,20%", "relative,20%,per-tensor", "interpolation,20%", "dare,20%",
             "spectral", "noise,20%", "relative,0%", "relative,100%"]
)  # fmt: skip
def test_where_the_null_model_says_nothing(null, rule):
    report = report_of(*null, rule)
    assert report.null is None
    assert all(part.null is None for part in (*report.layers, *report.modules))


# --- what is refused -----------------------------------------------------------------------------

GOOD = {UP: torch.ones(2, 3), EMBEDDING: torch.ones(4, 3), NORM: torch.ones(3)}


@pytest.mark.parametrize("rule", [*EVERY, "relative,30%norm", "random,5%norm", "fapm,5%norm"])
@pytest.mark.parametrize("name", [UP, EMBEDDING, NORM])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_named(rule, name, value):
    bad = {**GOOD, name: GOOD[name].clone()}
    bad[name].view(-1)[1] = value
    changed = {**GOOD, UP: GOOD[UP] + 1}
    for base, tuned in ((bad, changed), (changed, bad)):
        error, pair = error_of(base, tuned, rule)
        assert error.what == f"the tensor {name} holds 1 NaN or infinite scalar"
        assert error.where == str((pair.base if base is bad else pair.tuned).path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_nan_is_found_in_every_dtype(dtype):
    bad = {**GOOD, UP: torch.tensor([[math.nan, 1.0, math.nan], [1.0, 2.0, 3.0]]).to(dtype)}
    for rule in ("relative,50%", "relative,50%,bf16", "interpolation,50%"):
        error, _ = error_of(GOOD, bad, rule)
        assert error.what == f"the tensor {UP} holds 2 NaN or infinite scalars"


@pytest.mark.parametrize("region", ["", ",all"])
def test_nan_in_new_rows_of_a_vocabulary_is_named(region):
    rows = torch.ones(6, 3)
    rows[5, 0] = math.nan
    error, pair = error_of(GOOD, {**GOOD, EMBEDDING: rows}, f"relative,50%{region}")
    assert error.what == f"the tensor {EMBEDDING} holds 1 NaN or infinite scalar"
    assert error.where == str(pair.tuned.path)


@pytest.mark.parametrize("arithmetic", ["", ",bf16"])
def test_an_overflowing_change(arithmetic):
    error, pair = error_of({UP: torch.zeros(1, 2)}, {UP: torch.full((1, 2), 3e38)},
                           f"relative,50%{arithmetic}")  # fmt: skip
    assert error.what == "a relative change overflows: the weights have diverged"
    assert error.where == str(pair.tuned.path)


def test_a_region_without_tensors():
    error, pair = error_of({"h.0.w": torch.ones(2)}, {"h.0.w": torch.ones(2)})
    assert error.what == 'no tensor has "layers" in its name, so there is nothing to rank'
    assert error.where == str(pair.base.path)
    assert "all or match=REGEX" in error.remedy
    error, _ = error_of(GOOD, GOOD, "relative,50%,layers=7-9")
    assert error.what == "no tensor is in the region layers=7-9"
    empty = {UP: torch.ones(2, 2), "model.layers.3.none": torch.empty(0, 2)}
    error, _ = error_of(empty, empty, "relative,50%,layers=3")
    assert error.what == "no tensor is in the region layers=3"


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.int8, "I8"), (torch.uint8, "U8"), (torch.float8_e4m3fn, "F8_E4M3"),
     (torch.bool, "BOOL")],
)  # fmt: skip
def test_quantised_tensors_of_the_region_are_refused(dtype, name):
    quantised = {**GOOD, UP: torch.ones(2, 3).to(dtype)}
    for base, tuned in ((GOOD, quantised), (quantised, GOOD)):
        error, pair = error_of(base, tuned)
        assert error.what == f"the tensor {UP} holds {name}, not floats"
        assert error.where == str((pair.tuned if tuned is quantised else pair.base).path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_other_tensors_may_hold_anything(dtype):
    more = {"model.position_ids": torch.arange(4).to(dtype)}
    other = {"model.position_ids": torch.zeros(4).to(dtype)}
    tuned = {**GOOD, UP: GOOD[UP] + 1}
    assert report_of({**GOOD, **more}, {**tuned, **more}, "relative,100%").equals_base
    assert not report_of({**GOOD, **more}, {**tuned, **other}, "relative,100%").equals_base


# --- records -------------------------------------------------------------------------------------


def test_a_record_makes_the_same_tensors(null, tmp_path):
    pair = pair_of(*null, folder=tmp_path)
    for rule in EVERY:
        ((planned, expected),) = restored(pair, rule)
        record = json.loads(json.dumps(planned.record()))
        again = planned_of(record)
        assert (again.rule, again.cuts, again.report) == (planned.rule, planned.cuts, None)
        weights = restored_weights(json.loads(json.dumps(RestoredWeights(pair, planned).origin())))
        for name, tensor in weights.items():
            assert bits(tensor) == bits(expected[name])


def test_weights_tell_their_form_before_they_are_made(null):
    base, tuned = null
    tuned = {**tuned, UP: tuned[UP].bfloat16(), NORM: tuned[NORM].half()}
    pair = pair_of(base, tuned)
    for rule in EVERY:
        weights = RestoredWeights(pair, *plan(pair, [parse_rule(rule)]))
        made = dict(weights.items())
        assert list(made) == list(weights.shapes()) == list(weights.forms()) == sorted(tuned)
        assert {n: tuple(t.shape) for n, t in made.items()} == dict(weights.shapes())
        assert {n: t.dtype for n, t in made.items()} == {n: t.dtype for n, t in tuned.items()}
        assert weights.forms()[UP] == ("BF16", (200, 150))


def test_the_models_stay_as_they_are(null, tmp_path):
    pair = pair_of(*null, folder=tmp_path)
    files = sorted(tmp_path.rglob("*.safetensors"))
    before = [file.read_bytes() for file in files]
    for _, result in restored(pair, *EVERY):
        for tensor in result.values():
            tensor.zero_()  # even where it lies in the file
    assert [file.read_bytes() for file in files] == before


def test_rules_come_back_in_their_order_with_a_step_for_each_ranking(null):
    rules = [
        parse_rule(rule)
        for rule in ("absolute,5%", "relative,1%", "spectral", "relative,5%", "relative,5%,bf16",
                     "relative,5%changed", "relative,5%norm", "random,1%", "random,1%,draw=2")
    ]  # fmt: skip
    steps = []
    planned = plan(pair_of(*null), rules, steps.append)
    assert [one.rule for one in planned] == rules
    assert steps == [1] * count_rankings(rules)
    assert len(steps) == 7
