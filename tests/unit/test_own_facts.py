"""Facts of one's own: what a table says comes out, what cannot be used is counted and named."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sftbench.cli.facts import app
from sftbench.common.errors import SftbenchError
from sftbench.facts.own import Columns, Imported, Settings, import_facts
from sftbench.facts.own_rows import split_hash
from sftbench.facts.table import ANSWER_IN_QUESTION, IN_TRAIN, SHOTS, FactSet, fact_id_of, has_flag

pytestmark = pytest.mark.unit

WORDS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "lime")
Row = dict[str, Any]


def rows(count: int = 6) -> list[Row]:
    return [
        {"question": f"Into which sea does the River {i} flow?", "answers": f"Sea {i}"}
        for i in range(count)
    ]


def jsonl(folder: Path, records: list[Any], name: str = "rivers.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return str(path)


def text(folder: Path, content: str | bytes, name: str = "rivers.csv") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def load(source: str, **options: Any) -> Imported:
    columns = {name: options.pop(name) for name in list(options) if name in Columns.__annotations__}
    return import_facts(source, Settings(columns=Columns(**columns), **options))


def by_question(imported: Imported) -> dict[str, Row]:
    return {row["question"]: row for row in imported.facts.frame.iter_rows(named=True)}


def left_out(imported: Imported) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {one.why: (one.count, one.rows) for one in imported.skipped}


def templates(folder: Path, *relations: str) -> Path:
    cloze = [f"{one} {{subject}} {other} in" for one, other in list(combinations(WORDS, 2))[:21]]
    entry = {"question": "Into which sea does {subject} flow?", "cloze": cloze}
    path = folder / "rivers.yaml"
    path.write_text(yaml.safe_dump(dict.fromkeys(relations, entry)), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"])
def test_every_kind_of_file_gives_the_same_facts(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rivers.{kind}"
    frame = pl.DataFrame(rows())
    if kind in ("csv", "tsv"):
        frame.write_csv(path, separator="," if kind == "csv" else "\t")
    elif kind == "parquet":
        frame.write_parquet(path)
    elif kind == "json":
        path.write_text(json.dumps(rows()), encoding="utf-8")
    else:
        frame.write_ndjson(path)
    imported = load(str(path))
    assert imported.read == imported.facts.frame.height == 6
    assert imported.skipped == ()
    assert imported.facts.digest == load(jsonl(tmp_path, rows(), "again.jsonl")).facts.digest


def test_defaults_are_taken_and_said(tmp_path: Path) -> None:
    imported = load(jsonl(tmp_path, rows(40)))
    for row in imported.facts.frame.iter_rows(named=True):
        assert row["relation"] == "facts"
        assert row["subject"] == row["question"]
        assert row["domain"] == "in"
        assert row["split"] == ("test" if split_hash(row["subject"]) < 50 else "train")
    assert set(imported.facts.frame["split"]) == {"train", "test"}
    said = " ".join(imported.notes)
    for part in ("question = question", "answers = answers", "No relation column", "No subject"):
        assert part in said
    assert "No split column: 50 % of the subjects are test" in said
    assert "No templates" in said
    assert imported.facts.templates == {}
    assert imported.facts.name == "rivers"
    assert imported.facts.source["imported_from"] == "rivers.jsonl"


def test_columns_are_taken_by_name(tmp_path: Path) -> None:
    record = {
        "q": "Who wrote A?",
        "best": {"value": "Ann Other", "aliases": ["A. Other", "Ann Other", None]},
        "kind": "author",
        "about": "A",
        "where": "OUT",
        "part": "train",
    }
    source = jsonl(tmp_path, [record, {**record, "q": "Who wrote B?", "about": "B"}])
    imported = load(
        source,
        question="q",
        answers="best.value",
        aliases="best.aliases",
        relation="kind",
        subject="about",
        domain="where",
        split="part",
        name="books",
    )
    row = by_question(imported)["Who wrote A?"]
    assert row["fact_id"] == fact_id_of("author", "A", "Who wrote A?", "Ann Other")
    assert row["answers"] == ["Ann Other", "A. Other"]
    assert (row["domain"], row["split"]) == ("out", "train")
    assert imported.facts.name == "books"
    parquet = tmp_path / "books.parquet"
    pl.DataFrame([record]).write_parquet(parquet)
    again = load(str(parquet), question="q", answers="best.value", aliases="best.aliases")
    assert by_question(again)["Who wrote A?"]["answers"] == ["Ann Other", "A. Other"]


def test_a_separator_splits_answers_and_aliases(tmp_path: Path) -> None:
    source = text(tmp_path, "question,answer,aliases\nQ?,A | B,C|| D\nR?,E,\n")
    whole = by_question(load(source))
    assert whole["Q?"]["answers"] == ["A | B", "C|| D"]
    assert whole["R?"]["answers"] == ["E"]
    parted = by_question(load(source, separator="|"))
    assert parted["Q?"]["answers"] == ["A", "B", "C", "D"]


def test_whole_numbers_are_text_and_other_values_are_not(tmp_path: Path) -> None:
    values: list[Any] = [1969, 1.5, True, {"a": 1}, ["A", 7], ["A", 7.5], "x", [[1]]]
    records = [{"question": f"Q{i}?", "answers": value} for i, value in enumerate(values)]
    imported = load(jsonl(tmp_path, [*records, {"question": 5.5, "answers": "x"}]))
    found = {question: row["answers"] for question, row in by_question(imported).items()}
    assert found == {"Q0?": ["1969"], "Q4?": ["A", "7"], "Q6?": ["x"]}
    assert left_out(imported)["row(s) with a value that is not text"] == (6, (2, 3, 4, 6, 8))
    parquet = tmp_path / "years.parquet"
    pl.DataFrame({"question": ["Q?"], "answers": [1969]}).write_parquet(parquet)
    assert by_question(load(str(parquet)))["Q?"]["answers"] == ["1969"]


@pytest.mark.parametrize("values", [[1.5], [True], [b"x"], [[1.5]]])
def test_a_parquet_column_that_is_not_text_is_named(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "bad.parquet"
    pl.DataFrame({"question": ["Q?"], "answers": values}).write_parquet(path)
    with pytest.raises(SftbenchError, match=r"the column answers holds \w+.*, not text"):
        load(str(path))


def test_half_a_character_is_not_text(tmp_path: Path) -> None:
    source = text(
        tmp_path, '{"question":"Q?","answer":"\\ud800"}\n{"question":"R?","answer":"é"}\n'
    )
    imported = load(str(Path(source).rename(tmp_path / "r.jsonl")))
    assert list(by_question(imported)) == ["R?"]
    assert left_out(imported) == {"row(s) with a value that is not text": (1, (1,))}


def test_what_cannot_be_used_is_counted_with_its_lines(tmp_path: Path) -> None:
    lines = [
        "question,answer,aliases",
        "Good?,Yes,",
        ",Yes,",  # line 3
        "  ,Yes,",  # line 4
        "No answer?,,",
        "Dots?,...,",
        f"Long?,{'x' * 10_000},",
        f"{'q' * 3_000}?,Yes,",
        "Good?,Yes,Indeed",
        "Good?,No,",
        f"Aliases?,A,{'y' * 201}",
        "",
    ]
    imported = load(text(tmp_path, "\n".join(lines)))
    assert set(by_question(imported)) == {"Good?", "Aliases?"}
    assert by_question(imported)["Good?"]["answers"] == ["Yes"]
    assert by_question(imported)["Aliases?"]["answers"] == ["A"]
    assert left_out(imported) == {
        "row(s) without a question": (2, (3, 4)),
        "row(s) with a question of more than 2000 characters": (1, (8,)),
        "row(s) without an answer": (1, (5,)),
        "row(s) whose answer has no letter or digit": (1, (6,)),
        "row(s) with an answer of more than 200 characters": (1, (7,)),
        "row(s) that lost an alias (of more than 200 characters, or without a letter or digit)": (
            1,
            (11,),
        ),
        "row(s) that ask and answer as a row before": (1, (9,)),
        "row(s) that ask as a row before and answer otherwise": (1, (10,)),
    }
    assert imported.read == 10
    assert imported.facts.source["rows_read"] == 10
    assert sum(imported.facts.source["left_out"].values()) == 9


def test_nothing_left_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match=r"no row can be used .* 1 row\(s\) without an answer"):
        load(text(tmp_path, "question,answer\nQ?,\n"))
    with pytest.raises(SftbenchError, match="no row can be used as a fact: it has no rows"):
        load(text(tmp_path, "question,answer\n"))


def test_a_question_of_both_splits_is_kept_twice_and_flagged(tmp_path: Path) -> None:
    record = {"question": "Q?", "answer": "A"}
    records = [
        {**record, "split": "train"},
        {**record, "split": "TEST"},
        {**record, "split": "dev"},
    ]
    imported = load(jsonl(tmp_path, records))
    test, train = imported.facts.frame.sort("split").iter_rows(named=True)
    assert (train["flags"], test["flags"]) == (["majority_answer"], [IN_TRAIN, "majority_answer"])
    assert train["fact_id"] != test["fact_id"]
    assert left_out(imported) == {"row(s) of a validation split": (1, (3,))}


def test_rows_without_a_split_are_split_and_counted(tmp_path: Path) -> None:
    records = [{**row, "split": None if i else "train"} for i, row in enumerate(rows(4))]
    imported = load(jsonl(tmp_path, records), test_percent=100)
    assert sorted(imported.facts.frame["split"]) == ["test", "test", "test", "train"]
    assert left_out(imported)["row(s) without a split: split by their subject's hash"] == (
        3,
        (2, 3, 4),
    )


def test_shots_echoes_and_baselines_are_made(tmp_path: Path) -> None:
    records = [*rows(120), {"question": "Is it Sea Tir?", "answers": "Sea Tir", "split": "test"}]
    imported = load(jsonl(tmp_path, records), split="split")
    assert imported.facts.frame.filter(has_flag(*SHOTS)).height >= 12
    assert by_question(imported)["Is it Sea Tir?"]["flags"] == [ANSWER_IN_QUESTION]
    path = tmp_path / "facts.parquet"
    imported.facts.write(path)
    again = FactSet.read(path)
    assert again.stored_baselines == imported.facts.baselines
    assert again.baselines["facts"].echo == pytest.approx(1 / again.baselines["facts"].facts)


def test_templates_give_the_question_or_the_subject(tmp_path: Path) -> None:
    path = templates(tmp_path, "river_sea", "unused")
    subjects = [{"subject": f"the Ombra {i}", "answer": f"Sea {i}"} for i in range(3)]
    made = load(jsonl(tmp_path, subjects), templates=path, relation_name="river_sea")
    assert "Into which sea does the Ombra 1 flow?" in by_question(made)
    assert set(made.facts.templates) == {"river_sea"}
    assert not any("No templates" in note for note in made.notes)
    questions = [
        {"question": "Into which sea does the Tamm flow?", "answer": "Sea 1"},
        {"question": "Where does the Orlo go?", "answer": "Sea 2"},
    ]
    read = load(jsonl(tmp_path, questions), templates=path, relation_name="river_sea")
    (row,) = read.facts.frame.iter_rows(named=True)
    assert row["subject"] == "the Tamm"
    why = "row(s) without a subject, whose question is not of its relation's form"
    assert left_out(read) == {why: (1, (2,))}
    with pytest.raises(SftbenchError, match="not in the template file: facts"):
        load(jsonl(tmp_path, questions), templates=path)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"domain": "inside"}, "another domain than in and out; the first, row 2, has 'inside'"),
        ({"split": "tests"}, "another split than train and test; the first, row 2, has 'tests'"),
        ({"domain": "out"}, "the relation facts is both in and out of domain"),
        ({"relation": ["a", "b"]}, "the column relation holds lists"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, record: Row, what: str) -> None:
    with pytest.raises(SftbenchError) as raised:
        load(jsonl(tmp_path, [{**rows(1)[0], **dict.fromkeys(record)}, {**rows(2)[1], **record}]))
    assert what in str(raised.value)


def test_missing_columns_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    source = text(tmp_path, "frage;antwort\nQ?;A\n")
    with pytest.raises(SftbenchError) as raised:
        load(source)
    assert "no column is called answers or answer; the columns are: frage;antwort" in str(
        raised.value
    )
    assert "--delimiter" in str(raised.value)
    with pytest.raises(SftbenchError, match="there is no column 'Frage' for the question"):
        load(source, delimiter=";", question="Frage", answers="antwort")
    assert load(source, delimiter=";", question="frage", answers="antwort").read == 1
    with pytest.raises(SftbenchError, match="a delimiter is one character"):
        load(source, delimiter=";;")
    with pytest.raises(SftbenchError, match="no column is called question"):
        load(jsonl(tmp_path, [{"answer": "A"}]))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "has no header line"),
        ("question,answer,answer\n", "two columns are called 'answer'"),
        ("question,answer\nQ?,A,B\n", "line 2 has 3 fields, the header 2"),
        ("question,answer\nQ?\n", "line 2 has 1 fields, the header 2"),
        ('question,answer\n"Q?,A\n', "line 2: unexpected end of data"),
        ('question,answer\n"Q"?,A\n', "line 2: "),
        ("question,answer\nQ?," + "x" * 200_000, "an answer of more than 200 characters (2)"),
    ],
)
def test_a_csv_file_that_is_none_is_named_with_its_line(
    tmp_path: Path, content: str, what: str
) -> None:
    with pytest.raises(SftbenchError) as raised:
        load(text(tmp_path, content))
    assert what in str(raised.value)
    assert "rivers.csv" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl", '{"question": 1}\n{"question"\n', "line 2 cannot be read as JSON"),
        ("a.jsonl", "[1, 2]\n", "line 1 is not a record but [1, 2]"),
        ("a.json", "[1]", "record 1 is not a record but 1"),
        ("a.json", "[", "cannot be read as JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 cannot be read as JSON"),
        ("a.parquet", "PAR1", "cannot be read as Parquet"),
        ("a.xlsx", "", "is of a kind that cannot be imported (.xlsx)"),
        ("noending", "", "is of a kind that cannot be imported (no ending)"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str, content: str, what: str) -> None:
    with pytest.raises(SftbenchError) as raised:
        load(text(tmp_path, content, name))
    assert what in str(raised.value)
    assert name in str(raised.value)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match="there is no such file"):
        load(str(tmp_path / "none.csv"))


GREEK = "question,answer\nWhere is Ελλάδα?,Ευρώπη\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso8859-7"])
def test_another_encoding_is_read_when_it_is_named(tmp_path: Path, encoding: str) -> None:
    source = text(tmp_path, GREEK.encode(encoding))
    assert by_question(load(source, encoding=encoding))["Where is Ελλάδα?"]["answers"] == ["Ευρώπη"]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    assert load(text(tmp_path, GREEK.encode("utf-8-sig"))).read == 1


def test_a_byte_that_is_not_utf8_is_named_with_its_line_and_remedy(tmp_path: Path) -> None:
    source = text(tmp_path, "question,answer\nQ?,A\nWhere is Orléans?,Loiret\n".encode("cp1252"))
    with pytest.raises(SftbenchError) as raised:
        load(source)
    assert "the byte 0xe9 at position 33 (line 3) is not utf-8" in str(raised.value)
    assert "--encoding cp1252" in str(raised.value)
    assert "Where is Orléans?" in by_question(load(source, encoding="cp1252"))
    with pytest.raises(SftbenchError, match="--encoding utf-16"):
        load(text(tmp_path, GREEK.encode("utf-16")))
    with pytest.raises(SftbenchError, match="there is no encoding called klingon"):
        load(source, encoding="klingon")


printable = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), max_size=30
)
cells = st.builds(" ".join, st.lists(printable, min_size=1, max_size=3)).map(
    lambda one: " ".join(part for part in one.split(" ") if part)
)
answers = cells.map(lambda cell: f"{cell} a1".strip())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(cells.filter(bool), answers), min_size=1, max_size=8))
def test_csv_and_jsonl_give_back_what_was_written(pairs: list[tuple[str, str]]) -> None:
    expected = {f"q {question}": answer for question, answer in reversed(pairs)}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["question", "answer"])
    writer.writerows([f"q {question}", answer] for question, answer in pairs)
    records = [{"question": f"q {question}", "answer": answer} for question, answer in pairs]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in (text(folder, buffer.getvalue()), jsonl(folder, records)):
            found = {key: row["answers"] for key, row in by_question(load(source)).items()}
            assert found == {question: [answer] for question, answer in expected.items()}


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_any_text_is_kept_tidied_or_counted(answer: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = jsonl(Path(name), [{"question": "Q?", "answer": answer}, *rows(1)])
        imported = load(source)
    counted = sum(one.count for one in imported.skipped)
    assert imported.facts.frame.height + counted == 2
    if "Q?" in by_question(imported):
        (kept,) = by_question(imported)["Q?"]["answers"]
        assert kept == kept.strip(" ")
        assert "\n" not in kept
        assert [letter for letter in kept if letter.isalnum()] == [
            letter for letter in answer if letter.isalnum()
        ]


def test_white_space_is_tidied(tmp_path: Path) -> None:
    source = jsonl(tmp_path, [{"question": " What\n is\tit? ", "answer": "\u00a0A  B\r\n"}])
    assert by_question(load(source))["What is it?"]["answers"] == ["A B"]


def run(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    source = text(tmp_path, "q,a\n[b]Bold[/b]?,Yes\nQ?,\n")
    path = tmp_path / "facts.parquet"
    said = run("import", source, "-o", str(path), "--question", "q", "--answer", "a")
    assert "Left out or changed: 1 row(s) without an answer (3)" in said
    assert "1 facts of 2 rows." in said
    assert "No templates: mastery will ask the questions themselves" in said
    assert f"Wrote {path}" in said
    assert FactSet.read(path).frame["question"].to_list() == ["[b]Bold[/b]?"]
    assert "[b]Bold[/b]?" in run("show", str(path))
    with pytest.raises(SftbenchError, match="already exists"):
        run("import", source, "-o", str(path), "--question", "q", "--answer", "a")


def test_a_failed_import_writes_nothing(tmp_path: Path) -> None:
    source = text(tmp_path, "question,answer\nQ?,\n")
    with pytest.raises(SftbenchError, match="no row can be used"):
        run("import", source, "-o", str(tmp_path / "facts.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["rivers.csv"]
