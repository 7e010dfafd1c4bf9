"""`sftbench leaderboard build`, `table` and `pack`: what they write, refuse, and leave out."""

from __future__ import annotations

import json
import shutil
import signal
import sys

import polars as pl
import pytest
from leaderboards import change, put
from sftbench_leaderboard import folder as folder_module
from sftbench_leaderboard.folder import records_of
from sftbench_leaderboard.pack import pack
from sftbench_leaderboard.receipts import receipts_file
from sftbench_leaderboard.site.folder import MANIFEST
from sftbench_leaderboard.validate import validate
from typer.testing import CliRunner

from sftbench.cli.app import app, main

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Keep receipts where they are gone after the test."""
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def named(known, tmp_path):
    """Return the options that name the facts and the card of the results."""
    known.facts[0].write(tmp_path / "facts.parquet")
    known.cards[0].write(tmp_path / "card.parquet")
    return ["--facts", str(tmp_path / "facts.parquet"), "--card", str(tmp_path / "card.parquet")]


@pytest.fixture
def run(named):
    """Return a function that runs a command of the leaderboard, which must succeed."""

    def invoke(command, results, output, *more):
        arguments = [command, str(results), "-o", str(output), *more, *named]
        found = CliRunner().invoke(app, ["leaderboard", *arguments])
        assert found.exit_code == 0, found.exception
        return found

    return invoke


@pytest.fixture
def refused(named, monkeypatch, capsys):
    """Return a function that runs a command as a shell does, and gives what it says on exit 2."""

    def invoke(command, results, output, *more):
        arguments = [command, str(results), "-o", str(output), *more, *named]
        monkeypatch.setattr(sys, "argv", ["sftbench", "leaderboard", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        return capsys.readouterr().err

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield invoke
    for number, handler in handlers.items():
        signal.signal(number, handler)


def contents(folder):
    """Return every file of a folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_site_of_all_records(results, run, tmp_path):
    site = tmp_path / "out" / "site"
    found = run("build", results, site)
    assert found.stdout.startswith(f"{site / 'index.html'}: 3 records of 1 models, ")
    assert "left out" not in found.stderr
    assert {"index.html", "compare.html", "tradeoff.html", "score.html"} < set(contents(site))
    assert not (site / "rejected.html").exists()
    assert [one.name for one in site.parent.iterdir()] == ["site"]
    rows = pl.read_parquet(site / "data" / "models.parquet")
    assert sorted(rows["path"]) == [one.relative_to(results).as_posix() for one in (
        records_of(results))]  # fmt: skip


def test_what_can_be_downloaded_is_what_was_sent_in(results, run, tmp_path):
    run("build", results, tmp_path / "site")
    assert contents(tmp_path / "site" / "data" / "records") == contents(results)
    run("build", results, tmp_path / "small", "--no-records")
    assert not (tmp_path / "small" / "data" / "records").exists()


def test_building_twice_gives_the_same_bytes(results, run, tmp_path):
    for name in ("one", "two"):
        run("build", results, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_folder_that_is_no_site_is_refused_and_left_as_it_is(results, refused, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "thesis.txt").write_text("years of work")
    said = refused("build", results, site)
    assert "holds files, but no site that sftbench wrote" in said
    assert str(site) in said
    assert contents(site) == {"thesis.txt": b"years of work"}
    assert not list(tmp_path.glob(".site*"))


def test_a_file_in_place_of_the_site_is_refused_and_left_as_it_is(results, refused, tmp_path):
    (tmp_path / "site").write_text("a file")
    assert "already exists" in refused("build", results, tmp_path / "site")
    assert (tmp_path / "site").read_text() == "a file"


@pytest.mark.parametrize("name", ["tables", "tables/below"])
def test_a_file_in_place_of_the_tables_is_refused_and_left_as_it_is(
    results, refused, tmp_path, name
):
    (tmp_path / "tables").write_text("a file")
    assert str(tmp_path / name) in refused("table", results, tmp_path / name)
    assert (tmp_path / "tables").read_text() == "a file"


def test_an_empty_folder_becomes_the_site(results, run, tmp_path):
    (tmp_path / "site").mkdir()
    run("build", results, tmp_path / "site")
    assert (tmp_path / "site" / MANIFEST).is_file()


def test_a_site_takes_the_place_of_an_older_one_and_of_nothing_else(results, paths, run, tmp_path):
    site = tmp_path / "site"
    run("build", results, site)
    there = contents(site / "data" / "records")
    for name in ("CNAME", ".git/HEAD", "models/notes.txt"):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text("not of sftbench")
    shutil.rmtree(paths[0].parent)
    run("build", results, site)
    assert len(contents(site / "data" / "records")) == len(there) - 2
    assert not any(one.is_dir() and not any(one.iterdir()) for one in site.rglob("*"))
    run("build", results, tmp_path / "fresh")
    foreign = {"CNAME", ".git/HEAD", "models/notes.txt"}
    now = contents(site)
    assert {now.pop(name) for name in foreign} == {b"not of sftbench"}
    assert now == contents(tmp_path / "fresh")


def test_a_site_is_built_where_one_stands(results, run, tmp_path, monkeypatch):
    run("build", results, tmp_path / "site")
    monkeypatch.chdir(tmp_path / "site")
    run("build", results, ".")
    assert (tmp_path / "site" / "index.html").is_file()


def test_a_file_of_others_where_one_of_the_site_belongs_is_left_as_it_is(
    results, run, refused, tmp_path
):
    site = tmp_path / "site"
    run("build", results, site)
    listed = json.loads((site / MANIFEST).read_text())
    listed["files"].remove("score.html")
    (site / MANIFEST).write_text(json.dumps(listed))
    (site / "score.html").write_text("mine")
    assert "holds score.html" in refused("build", results, site)
    assert (site / "score.html").read_text() == "mine"


def test_a_list_that_names_files_elsewhere_removes_nothing_there(results, run, tmp_path):
    site = tmp_path / "site"
    run("build", results, site)
    (tmp_path / "thesis.txt").write_text("years of work")
    listed = json.loads((site / MANIFEST).read_text())
    listed["files"] += ["../thesis.txt", str(tmp_path / "thesis.txt")]
    (site / MANIFEST).write_text(json.dumps(listed))
    run("build", results, site)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("below", [".", "site", "a/b"])
def test_results_and_site_do_not_lie_in_one_another(results, refused, below):
    before = contents(results)
    assert "lies in the folder of results" in refused("build", results, results / below)
    assert contents(results) == before


def test_a_corrupt_record_is_named_left_out_and_listed(results, path, run, tmp_path):
    path.write_bytes(b"\x00not json")
    found = run("build", results, tmp_path / "site")
    place = path.relative_to(results).as_posix()
    assert f"left out: {place}: [json]" in found.stderr
    assert f"sftbench leaderboard validate {results}" in found.stderr
    assert "2 records of 1 models" in found.stdout
    page = (tmp_path / "site" / "rejected.html").read_text(encoding="utf-8")
    assert place in page
    assert "[json]" in page
    models = pl.read_parquet(tmp_path / "site" / "data" / "models.parquet")
    assert models.height == 2
    assert place not in set(models["path"])
    assert not (tmp_path / "site" / "data" / "records" / place).exists()


def test_where_all_is_rejected_the_site_that_is_there_stays(results, paths, run, refused, tmp_path):
    run("build", results, tmp_path / "site")
    before = contents(tmp_path / "site")
    for path in paths:
        path.write_text("{}")
    assert "there is no record that is accepted" in refused("build", results, tmp_path / "site")
    assert contents(tmp_path / "site") == before


def test_of_many_that_are_left_out_some_are_named(results, run, tmp_path):
    for number in range(25):
        (results / "some-org__tiny.1" / f"{number:02d}.txt").write_text("a stray file")
    found = run("table", results, tmp_path / "tables")
    assert found.stderr.count("[stray-file]") == 20
    assert "left out: 5 more" in found.stderr


@pytest.mark.parametrize("command", ["build", "table"])
def test_strict_stops_at_a_record_that_is_rejected(results, path, refused, tmp_path, command):
    change(path, put("domains.0.retention.score", 0.99))
    said = refused(command, results, tmp_path / "out", "--strict")
    assert "says 0.99, and the items give 0.75" in said
    assert str(path) in said
    assert "without --strict" in said
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_strict_leaves_an_older_site_as_it_is(results, path, run, refused, tmp_path):
    run("build", results, tmp_path / "site", "--strict")
    before = contents(tmp_path / "site")
    path.write_text("{}")
    refused("build", results, tmp_path / "site", "--strict")
    assert contents(tmp_path / "site") == before


@pytest.mark.parametrize("command", ["build", "table", "pack"])
def test_results_that_are_not_there_are_refused(refused, tmp_path, command):
    assert "no such folder of results" in refused(command, tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["build", "table"])
def test_a_file_that_is_no_results_is_refused(refused, tmp_path, command):
    (tmp_path / "results.parquet").write_bytes(b"PAR1")
    said = refused(command, tmp_path / "results.parquet", tmp_path / "out")
    assert "is no Parquet file of results" in said
    assert "sftbench leaderboard pack" in said
    assert not (tmp_path / "out").exists()


def test_tables_are_those_of_the_site(results, run, tmp_path):
    found = run("table", results, tmp_path / "tables")
    lines = found.stdout.splitlines()
    assert [line.partition(".csv")[0] for line in lines] == [
        str(tmp_path / "tables" / name) for name in ("models", "domains", "levels", "tasks")
    ]
    assert ": 3 rows, " in lines[0]
    assert ": 30 rows, " in lines[2]
    run("build", results, tmp_path / "site")
    site = contents(tmp_path / "site" / "data")
    assert contents(tmp_path / "tables") == {
        name: content for name, content in site.items() if "/" not in name
    }


def test_a_packed_folder_gives_the_same_pages(results, run, tmp_path):
    packed = tmp_path / "results.parquet"
    found = run("pack", results, packed)
    assert found.stdout == f"{packed}: 3 records\n"
    for source, name in ((results, "of-folder"), (packed, "of-file")):
        run("build", source, tmp_path / name)
        run("table", source, tmp_path / f"{name}-tables")
    assert contents(tmp_path / "of-folder") == contents(tmp_path / "of-file")
    assert contents(tmp_path / "of-folder-tables") == contents(tmp_path / "of-file-tables")


def test_only_accepted_records_are_packed(results, path, run, tmp_path):
    path.write_text("{}")
    found = run("pack", results, tmp_path / "results.parquet")
    assert "2 records" in found.stdout
    assert f"left out: {path.relative_to(results).as_posix()}: [schema]" in found.stderr
    rows = pl.read_parquet(tmp_path / "results.parquet")
    assert path.relative_to(results).as_posix() not in set(rows["path"])


def test_what_a_packed_file_holds_is_validated(results, path, run, tmp_path):
    """Whoever packs may leave out the validation; whoever builds does not."""
    change(path, put("domains.0.retention.score", 0.99))
    packed = tmp_path / "results.parquet"
    assert pack(records_of(results), packed) == 3
    found = run("build", packed, tmp_path / "site")
    assert f"left out: {path.relative_to(results).as_posix()}: [headline]" in found.stderr
    assert "2 records of 1 models" in found.stdout
    run("build", results, tmp_path / "of-folder")
    assert contents(tmp_path / "site") == contents(tmp_path / "of-folder")


def test_a_second_build_validates_nothing(results, run, cache, tmp_path, monkeypatch):
    run("table", results, tmp_path / "tables")
    assert receipts_file().is_relative_to(cache)
    assert len(json.loads(receipts_file().read_text())["accepted"]) == 3

    def refuse(*_):
        raise AssertionError("was accepted before")

    monkeypatch.setattr(folder_module, "validate", refuse)
    run("build", results, tmp_path / "site")
    run("pack", results, tmp_path / "results.parquet")
    run("build", tmp_path / "results.parquet", tmp_path / "again")


def test_validate_takes_no_receipt_for_an_answer(results, run, named, tmp_path, monkeypatch):
    run("table", results, tmp_path / "tables")
    seen = []

    def counted(path, *more):
        seen.append(path)
        return validate(path, *more)

    monkeypatch.setattr(folder_module, "validate", counted)
    found = CliRunner().invoke(app, ["leaderboard", "validate", str(results), *named])
    assert found.output == "3 accepted, 0 rejected\n"
    assert len(seen) == 3


def test_a_title_is_on_every_page(results, run, tmp_path):
    run("build", results, tmp_path / "site", "--title", "Ours & <theirs>")
    pages = [path for path in (tmp_path / "site").rglob("*.html") if "records" not in path.parts]
    assert len(pages) == 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "Ours &amp; &lt;theirs&gt;" in text
        assert "<theirs>" not in text


def test_a_name_of_a_file_that_means_harm_is_said_in_ascii(results, run, tmp_path):
    (results / "some-org__tiny.1" / "\x1b[31m<b>.txt").write_text("a stray file")
    found = run("build", results, tmp_path / "site")
    assert "\x1b" not in found.stderr
    assert r"\x1b[31m<b>.txt: [stray-file]" in found.stderr
    page = (tmp_path / "site" / "rejected.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;.txt" in page
    assert "<b>.txt" not in page
