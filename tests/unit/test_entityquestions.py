"""EntityQuestions: the paper's filter, flagged leaks, and files that are not what they seem."""

from __future__ import annotations

import http.server
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from sftbench.cli.facts import app
from sftbench.common.errors import SftbenchError
from sftbench.facts import entityquestions_files as files
from sftbench.facts.entityquestions import (
    PAPER_TOTALS,
    aliases,
    build_entityquestions,
    download_entityquestions,
    question_forms,
    totals_of,
)
from sftbench.facts.entityquestions_filter import IN_DOMAIN, OUT_OF_DOMAIN
from sftbench.facts.reference import resolve_facts, shipped_facts
from sftbench.facts.shots import shots_of
from sftbench.facts.table import (
    ANSWER_IN_QUESTION,
    EXCLUDED_FLAGS,
    IN_TRAIN,
    SHOTS,
    FactSet,
    check_rows,
    fact_id_of,
    has_flag,
)

pytestmark = pytest.mark.unit

FIXTURE = Path(__file__).parents[1] / "data" / "entityquestions"
TOTALS = {"in/train": 121, "in/test": 64, "out/test": 70}


@pytest.fixture(scope="module")
def facts() -> FactSet:
    return build_entityquestions(FIXTURE)


def zipped(path: Path, top: str = "dataset/", extra: dict[str, bytes] | None = None) -> Path:
    """Return a zip file of the fixture."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(FIXTURE.rglob("*.json")):
            archive.write(file, top + file.relative_to(FIXTURE).as_posix())
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def asked(facts: FactSet, question: str) -> list[dict[str, Any]]:
    return facts.frame.filter(pl.col("question") == question).sort("split").to_dicts()


def test_one_answer_and_the_first_of_equal_questions(facts: FactSet) -> None:
    assert totals_of(facts) == TOTALS
    check_rows(facts.frame)
    assert facts.source["records"] == {
        "in/test": 65,
        "in/train": 125,
        "out/test": 70,
        "out/train": 140,
    }
    assert facts.source["dropped_not_one_answer"] == {"in/test": 1, "in/train": 2}
    assert facts.source["dropped_repeated_question"] == {"in/train": 2}
    assert asked(facts, "Which country is Port Amber located in?") == []  # two answers
    assert asked(facts, "Which country is Fort Brask located in?") == []  # none
    (first,) = asked(facts, "Which country is Alda Bridge located in?")
    assert first["answers"] == ["Veldria"]  # not the later "Quell"


def test_a_question_of_two_relations_stays_in_the_first_of_their_order(facts: FactSet) -> None:
    test, train = asked(facts, "Where is Lake Ombra located?")
    assert (train["relation"], train["answers"]) == ("P131", ["Ambry Province"])
    assert (test["relation"], test["answers"]) == ("P276", ["Tall Ridge"])


def test_test_questions_that_training_asks_are_flagged_and_not_scored(facts: FactSet) -> None:
    leaked = facts.frame.filter(has_flag(IN_TRAIN))
    assert set(leaked["question"]) == {
        "Where is Lake Ombra located?",
        "Which country is Dorn Bridge located in?",
    }
    assert set(leaked["split"]) == {"test"}
    assert facts.scored().filter(has_flag(IN_TRAIN)).is_empty()
    assert facts.source["test_facts_asked_in_train"] == 2
    assert facts.source["test_records_asked_in_train"] == 3  # one of them has two answers


def test_a_fact_in_both_splits_has_two_names(facts: FactSet) -> None:
    test, train = asked(facts, "Which country is Dorn Bridge located in?")
    named = ("P17", "Dorn Bridge", test["question"], "Norrand")
    assert train["fact_id"] == fact_id_of(*named)
    assert test["fact_id"] == fact_id_of(*named, copy=2) != train["fact_id"]


def test_an_answer_in_the_question_is_flagged_and_not_scored(facts: FactSet) -> None:
    (echo,) = asked(facts, "What is the capital of Varnholm County?")
    assert ANSWER_IN_QUESTION in echo["flags"]
    assert echo["fact_id"] not in set(facts.scored()["fact_id"])
    assert facts.source["test_facts_with_answer_in_question"] == 1


def test_the_papers_synonyms_follow_the_answer(facts: FactSet) -> None:
    (one,) = asked(facts, "Which country was Silent Harbour created in?")
    assert one["answers"] == ["United States of America", "USA", "United States"]
    assert len(aliases()) == 29
    assert sum(map(len, aliases().values())) == 40


def test_subjects_are_what_the_question_form_leaves(facts: FactSet) -> None:
    assert asked(facts, "Who is Alda Bly's child?") == []  # train, and out of domain: a shot or not
    children = facts.frame.filter(pl.col("relation") == "P40", pl.col("split") == "test")
    assert "Kéla Bly" in set(children["subject"])
    assert all(
        question == f"Who is {subject}'s child?"
        for question, subject in children.select("question", "subject").rows()
    )


def test_out_of_domain_train_facts_are_shots_alone(facts: FactSet) -> None:
    kept = facts.frame.filter(pl.col("domain") == "out", pl.col("split") == "train")
    assert kept.height == facts.source["shots_from_out_of_domain_train"] == 98
    assert kept.filter(~has_flag(*SHOTS)).is_empty()
    one = facts.scored(domain="out").row(0, named=True)
    assert len(shots_of(facts)(one["fact_id"], one["relation"])) in (2, 3)  # 7 in three sets


def test_as_paper_keeps_every_fact_scored_and_names_it_alike(facts: FactSet) -> None:
    paper = build_entityquestions(FIXTURE, as_paper=True)
    assert totals_of(paper) == TOTALS
    assert paper.frame.height == sum(TOTALS.values())
    assert paper.frame.filter(has_flag(*EXCLUDED_FLAGS)).is_empty()
    assert paper.scored(split="test").height == 134
    assert paper.scored(split="train").height == 121
    assert set(paper.frame["fact_id"]) <= set(facts.frame["fact_id"])
    assert paper.source["test_facts_asked_in_train"] == 2
    assert paper.name == "entityquestions-paper"
    assert paper.digest != facts.digest


@pytest.mark.parametrize("top", ["dataset/", ""])
def test_a_zip_file_gives_the_same_facts_as_the_folder(
    tmp_path: Path, facts: FactSet, top: str
) -> None:
    archived = build_entityquestions(zipped(tmp_path / "d.zip", top, {"__MACOSX/._x": b"\x00"}))
    assert archived.digest == facts.digest
    assert archived.source == facts.source


def test_a_folder_may_have_the_published_top_folder(tmp_path: Path, facts: FactSet) -> None:
    (tmp_path / "dataset").symlink_to(FIXTURE)
    assert build_entityquestions(tmp_path).digest == facts.digest


def test_every_relation_has_the_form_and_the_lines(facts: FactSet) -> None:
    assert set(question_forms().relations) == {*IN_DOMAIN, *OUT_OF_DOMAIN}
    assert set(facts.templates) == set(facts.frame["relation"])
    assert {len(lines) for lines in facts.templates.values()} == {21}


@pytest.mark.parametrize(
    "name", ["../evil.json", "dataset/../../evil", "/etc/evil", "C:/evil", "..\\evil", "\\evil"]
)
def test_a_member_whose_path_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "d.zip", extra={name: b"[]"})
    with pytest.raises(SftbenchError, match="a member whose path leaves the folder") as raised:
        build_entityquestions(path)
    assert str(path) in str(raised.value)


def test_a_zip_bomb_is_refused_by_what_it_would_unpack_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "d.zip", extra={"zeros": bytes(2**21)})
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(files, "MOST_BYTES_TOGETHER", 2**20)
    with pytest.raises(SftbenchError, match="would unpack to more than 1 MiB"):
        build_entityquestions(path)


def test_a_single_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "d.zip")
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    with pytest.raises(SftbenchError, match=r"train/P17.train.json: has more than"):
        build_entityquestions(path)
    with pytest.raises(SftbenchError, match="has more than"):
        build_entityquestions(FIXTURE)


def test_an_archive_of_very_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_MEMBERS", 40)
    with pytest.raises(SftbenchError, match="holds 48 files"):
        build_entityquestions(zipped(tmp_path / "d.zip"))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "d.zip", extra={"dataset/train/P17.train.json": b"[]"})
    with pytest.raises(SftbenchError, match="two members of one name"):
        build_entityquestions(path)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def spoil(content: bytes) -> bytes:
    """Flip bytes of the first file's data: its checksum is wrong, or it does not unpack."""
    start = 30 + len("dataset/test/P106.test.json") + 20
    return (
        content[:start]
        + bytes(255 - byte for byte in content[start : start + 40])
        + content[start + 40 :]
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (cut, "zip file that can be read"),
        (lambda _: b"", "zip file that can be read"),
        (lambda _: b"no zip", "zip file that can be read"),
        (spoil, "the zip file is broken at dataset/test/P106.test.json"),
    ],
)
def test_a_broken_zip_file_is_one_clear_error(
    tmp_path: Path, change: Callable[[bytes], bytes], what: str
) -> None:
    path = zipped(tmp_path / "d.zip")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SftbenchError, match=what) as raised:
        build_entityquestions(path)
    assert "--from dataset.zip" in str(raised.value)


def test_an_encrypted_member_is_one_clear_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "d.zip")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:  # the flag bit "encrypted" of every member
            content[start + offset] |= 1
            start = content.find(signature, start + 4)
    path.write_bytes(content)
    with pytest.raises(SftbenchError, match="cannot be unpacked"):
        build_entityquestions(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"{}", "is not a list of records"),
        (b"[1]", "record 1 is not of the form"),
        (b'[{"question": "Q?"}]', "record 1 is not of the form"),
        (b'[{"question": "Q?", "answers": "A"}]', "record 1 is not of the form"),
        (b'[{"question": "Q?", "answers": [1]}]', "record 1 is not of the form"),
        (b'[{"question": "Q?", "answers": [" "]}]', "record 1 is not of the form"),
        (b'[{"question": "\\ud800", "answers": ["A"]}]', "record 1 is not of the form"),
    ],
)
def test_files_of_another_form_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = zipped_with(tmp_path, "train/P20.train.json", content)
    with pytest.raises(SftbenchError, match=what) as raised:
        build_entityquestions(path)
    assert "train/P20.train.json" in str(raised.value)


def zipped_with(folder: Path, name: str, content: bytes) -> Path:
    """Return a zip file of the fixture with another content of one file."""
    path = folder / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in FIXTURE.rglob("*.json"):
            member = file.relative_to(FIXTURE).as_posix()
            archive.writestr(member, content if member == name else file.read_bytes())
    return path


def test_a_question_of_another_form_is_named(tmp_path: Path) -> None:
    records = [{"question": "Whence came Alda?", "answers": ["Stenn"]}]
    path = zipped_with(tmp_path, "test/P19.test.json", json.dumps(records).encode())
    with pytest.raises(SftbenchError) as raised:
        build_entityquestions(path)
    assert "'Whence came Alda?'" in str(raised.value)
    assert "'Where was {subject} born?'" in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match="there is no such file or folder"):
        build_entityquestions(tmp_path / "none.zip")
    with pytest.raises(SftbenchError, match=r"there is no train/P17\.train\.json"):
        build_entityquestions(tmp_path)
    path = tmp_path / "empty.zip"
    zipfile.ZipFile(path, "w").close()
    with pytest.raises(SftbenchError, match=r"there is no train/P17\.train\.json"):
        build_entityquestions(path)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a zip file of the fixture, and yield its address."""
    zipped(tmp_path / "dataset.zip")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/dataset.zip"
    server.shutdown()
    server.server_close()
    thread.join()


def serve_from(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sftbench.facts.entityquestions.downloaded", partial(files.downloaded, address)
    )


def test_a_download_is_used_only_with_the_papers_totals(
    address: str, monkeypatch: pytest.MonkeyPatch, facts: FactSet
) -> None:
    serve_from(address, monkeypatch)
    with pytest.raises(SftbenchError, match="not the paper's totals") as raised:
        download_entityquestions()
    assert "75944" in str(raised.value)
    monkeypatch.setattr("sftbench.facts.entityquestions.PAPER_TOTALS", TOTALS)
    assert download_entityquestions().digest == facts.digest


def test_a_download_that_fails_is_one_clear_error(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from(address + ".gone", monkeypatch)
    with pytest.raises(SftbenchError, match=r"cannot be downloaded \(HTTP Error 404"):
        download_entityquestions()
    serve_from("http://127.0.0.1:9/dataset.zip", monkeypatch)
    with pytest.raises(SftbenchError, match="cannot be downloaded") as raised:
        download_entityquestions()
    assert "on a machine with a network" in str(raised.value)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_keeps_the_table_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: FactSet
) -> None:
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SftbenchError, match="are still to be made") as raised:
        resolve_facts("entityquestions")
    assert "sftbench facts entityquestions" in str(raised.value)
    code, said = run("entityquestions", "--from", str(FIXTURE))
    assert code == 0
    assert "not the paper's totals (in/train 75,944, in/test 9,555, out/test 11,613)" in said
    assert "use it as --facts entityquestions" in said
    assert resolve_facts("entityquestions").digest == facts.digest
    found = shipped_facts(facts.digest)
    assert found is not None
    assert found.digest == facts.digest
    with pytest.raises(SftbenchError, match=r"entityquestions-paper .*still to be made"):
        resolve_facts("entityquestions-paper")
    monkeypatch.setattr("sftbench.facts.entityquestions.VERSION", 99)
    with pytest.raises(SftbenchError, match=r"holds version 1 .* makes version 99"):
        resolve_facts("entityquestions")


def test_the_command_writes_where_it_is_told(tmp_path: Path, facts: FactSet) -> None:
    path = tmp_path / "f.parquet"
    code, said = run("entityquestions", "--from", str(FIXTURE), "-o", str(path), "--as-paper")
    assert code == 0
    assert f"Wrote {path}" in said
    assert FactSet.read(path).name == "entityquestions-paper"
    with pytest.raises(SftbenchError, match="already exists"):
        run("entityquestions", "--from", str(FIXTURE), "-o", str(path))


def test_the_totals_are_those_of_the_paper() -> None:
    assert PAPER_TOTALS == {"in/train": 75_944, "in/test": 9_555, "out/test": 11_613}


def test_an_archive_in_memory_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "nested.zip"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("train/P17.train.json", "[]")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dataset.zip", inner.getvalue())
    with pytest.raises(SftbenchError, match="not the files of EntityQuestions"):
        build_entityquestions(path)
