"""Fact tables that people make: broken rows are refused, and the lines of the guide work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from sftbench.cli.facts import app
from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Completion, Draws, Engine, Sampling
from sftbench.facts.shots import shots_of
from sftbench.facts.table import FACTS, SHOTS, FactSet, check_rows, has_flag
from sftbench.mastery.sampled import SampledEstimator

pytestmark = pytest.mark.unit

GUIDE = Path(__file__).parents[2] / "docs" / "facts.md"
WORDS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "lime")


def row(**changed: Any) -> dict[str, Any]:
    return {
        "fact_id": "0" * 16,
        "relation": "river_sea",
        "subject": "the Ombra",
        "question": "Into which sea does the Ombra flow?",
        "answers": ["Sea of Tir", "東"],
        "domain": "in",
        "split": "train",
        "flags": [],
    } | changed


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(FACTS.columns))


@pytest.mark.parametrize("answers", [[""], ["x", None], [" \n"], ["x", "..."], ["\ufffd"]])
def test_an_answer_that_cannot_be_looked_for_is_refused(
    tmp_path: Path, answers: list[str | None]
) -> None:
    path = tmp_path / "facts.parquet"
    good = row(fact_id="1" * 16)
    FACTS.write(table(good, row(answers=answers)), path, {})
    with pytest.raises(SftbenchError, match=r"null or has no letter or digit in 1 row"):
        FactSet.read(path)


def test_answers_of_any_script_and_numbers_are_answers() -> None:
    check_rows(table(row(answers=["東京", "नाम", "7", "Ελλάδα", "D.C."])))


def write_rivers(folder: Path) -> None:
    """Write what the guide speaks of: 80 invented rivers, 60 of them train, and their templates."""
    rivers = {
        "subject": [f"the River {number}" for number in range(80)],
        "answers": [[f"Sea {number % 20}", f"the {number % 20} Sea"] for number in range(80)],
        "split": ["test" if number % 4 == 0 else "train" for number in range(80)],
    }
    pl.DataFrame(rivers).write_parquet(folder / "rivers.parquet")
    cloze = [f"{one} {{subject}} {other} in" for one, other in list(combinations(WORDS, 2))[:21]]
    entry = {"question": "Into which sea does {subject} flow?", "cloze": cloze}
    (folder / "rivers.yaml").write_text(yaml.safe_dump({"river_sea": entry}), encoding="utf-8")


def make_own_facts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FactSet:
    """Run the lines of the guide on the rivers, and read the result."""
    write_rivers(folder)
    (lines,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(folder)
    exec(compile(lines, str(GUIDE), "exec"), {})
    return FactSet.read(folder / "rivers_facts.parquet")


def test_the_lines_of_the_guide_make_a_full_fact_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = make_own_facts(tmp_path, monkeypatch)
    assert facts.name == "rivers"
    assert facts.frame.height == 80
    assert len(facts.templates["river_sea"]) == 21
    assert facts.frame.filter(has_flag(*SHOTS)).height == 15
    assert facts.scored(split="test").height == 20
    assert facts.scored(split="train").height == 45
    one = facts.scored().row(0, named=True)
    shots = shots_of(facts)(one["fact_id"], one["relation"])
    assert len(shots) == 5
    assert one["question"] not in {shot.question for shot in shots}
    assert all(shot.answer.startswith("Sea ") for shot in shots)


def test_the_import_commands_of_the_guide_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rivers(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("rivers.csv").write_text(
        "asks,sea,others,kind\nWhere does the Ombra end?,Sea of Tir,Tir Sea|the Tir,river\n"
    )
    Path("rivers.jsonl").write_text('{"question": "Where does the Orlo end?", "answer": "Tir"}\n')
    commands = re.findall(r"^sftbench facts (import rivers.*)$", GUIDE.read_text(), re.MULTILINE)
    assert len(commands) == 3
    made = {}
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == 0, result.output
        made[command.split()[1]] = FactSet.read(Path("rivers_facts.parquet"))
        Path("rivers_facts.parquet").unlink()
    (river,) = made["rivers.csv"].frame.iter_rows(named=True)
    assert river["relation"] == "river"
    assert river["answers"] == ["Sea of Tir", "Tir Sea", "the Tir"]
    assert set(made["rivers.parquet"].templates) == {"river_sea"}
    assert made["rivers.parquet"].frame.height == 80
    assert made["rivers.jsonl"].name == "rivers"


class Echo:
    """An engine whose every completion is its prompt."""

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        for one in draws:
            yield [Completion(one.prompt, "stop", 1)] * one.n


def hits_of(template: str) -> list[list[bool]]:
    """Return the hits of one template for a fact whose answer is the word after `{subject}`."""
    fact = row(answers=["Ombra {foo}"])
    engine = cast("Engine", Echo())
    (found,) = SampledEstimator(samples=2).estimate(engine, [fact], {"river_sea": [template]})
    assert found.hits is not None
    return found.hits


def test_other_braces_in_a_template_are_plain_text() -> None:
    assert hits_of("{0} and {subject} {foo} in {") == [[True, True]]
    assert hits_of("{subject} {bar} in") == [[False, False]]


def test_a_relation_without_templates_is_named_with_what_to_do() -> None:
    estimates = SampledEstimator().estimate(cast("Engine", Echo()), [row()], {})
    with pytest.raises(SftbenchError) as raised:
        next(estimates)
    assert "relation river_sea has no cloze templates" in str(raised.value)
    assert "--templates FILE.yaml" in str(raised.value)
    assert "docs/facts.md" in str(raised.value)
