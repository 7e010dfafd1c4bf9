"""Receipts: what was accepted is not validated again, and all that is another way is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from fakes import card_for
from leaderboards import change, put
from sftbench_leaderboard import folder as folder_module
from sftbench_leaderboard import receipts as receipts_module
from sftbench_leaderboard.folder import records_of, verdicts
from sftbench_leaderboard.items import ITEMS, MOST_BYTES
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside, place_of
from sftbench_leaderboard.receipts import KIND, Receipts, receipts_file
from sftbench_leaderboard.validate import MOST_RECORD_BYTES, validate

import sftbench
from sftbench.facts.table import FactSet

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache" / "receipts.json"


@pytest.fixture
def validated(monkeypatch):
    """Return the list of the records that are validated from now on."""
    found = []

    def counted(path, *more):
        found.append(path)
        return validate(path, *more)

    monkeypatch.setattr(folder_module, "validate", counted)
    return found


def judge(results, known, file):
    """Return the verdicts on a folder; what was accepted before is not validated again."""
    receipts = Receipts(file, known)
    found = list(verdicts(results, known, receipts=receipts))
    receipts.close()
    return found


@pytest.fixture(scope="module")
def receipts_of_all(submitted, known, tmp_path_factory):
    """Validate all three records once; return the file of their receipts."""
    file = tmp_path_factory.mktemp("receipts") / "receipts.json"
    found = judge(submitted[0].path.parents[2], known, file)
    assert [one.ok for one in found] == [True] * 3
    assert len(kept(file)) == 3
    return file


@pytest.fixture
def first(receipts_of_all, results, known, file):
    """Return the verdicts on three records that have receipts."""
    file.parent.mkdir()
    shutil.copyfile(receipts_of_all, file)
    return judge(results, known, file)


def kept(file):
    return json.loads(file.read_text(encoding="utf-8"))["accepted"]


def test_what_was_accepted_is_not_validated_again(first, results, known, file, monkeypatch):
    def refuse(*_):
        raise AssertionError("was accepted before")

    monkeypatch.setattr(folder_module, "validate", refuse)
    for _ in range(2):
        assert judge(results, known, file) == first


def test_a_record_that_is_read_by_its_receipt_is_the_same(first, results, known, file):
    assert [one.record for one in judge(results, known, file)] == [
        validate(one.path, known).record for one in first
    ]


def test_without_receipts_all_is_validated(first, results, known, validated):
    assert list(verdicts(results, known)) == first
    assert len(validated) == 3


def spoil_record(path):
    change(path, put("domains.0.retention.score", 0.99))


def spoil_items(path):
    frame, _ = ITEMS.read(items_beside(path))
    frame.with_columns(correct=~pl.col("correct")).write_parquet(items_beside(path))


def add_a_byte(path):
    path.write_bytes(path.read_bytes() + b"\n")


def add_a_byte_to_items(path):
    items_beside(path).write_bytes(items_beside(path).read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("edit", "ok"),
    [(spoil_record, False), (spoil_items, False), (add_a_byte, True), (add_a_byte_to_items, False)],
)
@pytest.mark.usefixtures("first")
def test_a_record_that_is_no_longer_the_same_is_validated_again(
    results, path, known, file, validated, edit, ok
):
    edit(path)
    found = judge(results, known, file)
    assert validated == [path]
    assert {one.path: one.ok for one in found}[path] == ok
    assert sum(one.ok for one in found) == 2 + ok


@pytest.mark.usefixtures("first")
def test_every_byte_counts(path, known, file):
    receipts = Receipts(file, known)
    for one in (path, items_beside(path)):
        content = bytearray(one.read_bytes())
        for at in (0, len(content) // 2, len(content) - 1):
            content[at] ^= 1
            one.write_bytes(content)
            assert not receipts.has(path)
            content[at] ^= 1
        one.write_bytes(content)
    assert receipts.has(path)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(
    ("module", "name"),
    [(sftbench, "__version__"), (receipts_module, "SUITE"), (receipts_module, "SCHEMA_VERSION")],
)
def test_another_version_validates_again(
    results, known, file, validated, monkeypatch, module, name
):
    monkeypatch.setattr(module, name, "another")
    judge(results, known, file)
    assert len(validated) == 3


@pytest.mark.usefixtures("first")
def test_another_card_that_ships_validates_again(results, known, file, validated, monkeypatch):
    more = [(Path("card.parquet"), {"digest": "f" * 32})]
    monkeypatch.setattr(receipts_module, "bundled_cards", lambda: more)
    judge(results, known, file)
    assert len(validated) == 3


def other_facts(known):
    (facts,) = known.facts
    rows = facts.frame.with_columns(question=pl.lit("another"))
    return FactSet(rows, facts.templates, facts.source)


def other_card(known):
    return card_for(known.facts[0], "f" * 32, shift=1)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize(
    "named",
    [
        lambda known: Known(known.facts),
        lambda known: Known((), known.cards),
        lambda known: Known([*known.facts, other_facts(known)], known.cards),
        lambda known: Known(known.facts, [other_card(known), *known.cards]),
    ],
    ids=["no card", "no facts", "more facts", "more cards"],
)
def test_other_facts_or_cards_that_are_named_validate_again(results, known, file, validated, named):
    judge(results, named(known), file)
    assert len(validated) == 3


def test_neither_the_order_of_what_is_named_nor_another_object_counts(
    results, known, file, validated
):
    facts, cards = [*known.facts, other_facts(known)], [*known.cards, other_card(known)]
    judge(results, Known(facts, cards), file)
    judge(results, Known(facts[::-1], cards[::-1]), file)
    assert len(validated) == 3


def test_a_record_without_its_facts_is_not_accepted_by_a_receipt(first, results, known, file):
    assert first[0].ok
    found = judge(results, Known((), known.cards), file)
    assert [one.problems[0].code for one in found] == ["foreign-facts"] * 3


BROKEN = [
    "", "{", "[]", "null", "3", '"text"', "{}", "[" * 100_000, "\x00", '{"a": 1}',
    f'{{"kind": "{KIND}"}}', f'{{"kind": "{KIND}", "accepted": 3}}',
    f'{{"kind": "{KIND}", "accepted": [[1]]}}', f'{{"kind": "{KIND}", "accepted": null}}',
    f'{{"kind": "{KIND}", "accepted": {{"a": 1}}}}', '{"kind": [], "accepted": []}',
    '{"accepted": []}',
]  # fmt: skip


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("content", BROKEN, ids=lambda one: ascii(one)[:40])
def test_a_file_that_holds_no_receipts_is_replaced(results, known, file, validated, content):
    good = file.read_bytes()
    file.write_text(content, encoding="utf-8")
    assert [one.ok for one in judge(results, known, file)] == [True] * 3
    assert len(validated) == 3
    assert file.read_bytes() == good


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("content", [b"\xff\xfe", b"PAR1", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_are_no_receipts(results, known, file, validated, content):
    file.write_bytes(content)
    assert [one.ok for one in judge(results, known, file)] == [True] * 3
    assert len(validated) == 3


@pytest.mark.usefixtures("first")
def test_receipts_of_another_kind_do_not_count(results, known, file, validated):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "kind": "another"}))
    judge(results, known, file)
    assert len(validated) == 3


def test_a_record_that_is_rejected_has_no_receipt(results, path, known, file, validated):
    spoil_record(path)
    for _ in range(2):
        found = judge(results, known, file)
        assert [one.path for one in found if not one.ok] == [path]
        assert len(kept(file)) == 2
    assert validated.count(path) == 2
    assert len(validated) == 4


@pytest.mark.usefixtures("first")
def test_a_duplicate_is_one_however_often_it_is_looked_at(path, results, known, file):
    other = results / place_of("zz/copy", path.parent.name, path.stem)
    shutil.copytree(path.parent, other.parent)
    change(other, put("model.name", "zz/copy"))
    for _ in range(2):
        found = [one for one in judge(results, known, file) if not one.ok]
        assert [(one.path, one.problems[0].code) for one in found] == [(other, "duplicate")]


@pytest.mark.usefixtures("first")
def test_receipts_of_other_results_are_kept_until_there_are_too_many(
    results, path, known, file, monkeypatch
):
    before = kept(file)
    shutil.rmtree(path.parent)
    judge(results, known, file)
    assert kept(file) == before
    monkeypatch.setattr(receipts_module, "MOST", 3)
    change(records_of(results)[0], lambda content: content.update(recipe=None))
    judge(results, known, file)
    assert len(kept(file)) == 3
    assert len(set(kept(file)) - set(before)) == 1


@pytest.mark.usefixtures("first")
def test_receipts_that_stay_are_not_written_again(results, known, file, monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing changed")

    monkeypatch.setattr(receipts_module, "write_json", refuse)
    judge(results, known, file)


@pytest.mark.usefixtures("first")
def test_another_place_has_no_receipt_and_another_results_folder_has(
    results, path, known, file, tmp_path
):
    receipts = Receipts(file, known)
    moved = tmp_path / "elsewhere" / "/".join(path.parts[-3:])
    shutil.copytree(path.parent, moved.parent)
    assert receipts.has(moved)
    other = results / "a__b" / path.parent.name / path.name
    shutil.copytree(path.parent, other.parent)
    assert not receipts.has(other)
    assert [one.problems[0].code for one in judge(results, known, file) if not one.ok] == ["place"]


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("part", [lambda path: path, items_beside], ids=["record", "items"])
def test_links_never_have_receipts(results, path, known, file, tmp_path, part):
    moved = part(path).rename(tmp_path / "moved")
    part(path).symlink_to(moved)
    receipts = Receipts(file, known)
    assert not receipts.has(path)
    before = kept(file)
    receipts.give(path)
    receipts.close()
    assert kept(file) == before
    (found,) = [one for one in judge(results, known, file) if not one.ok]
    assert (found.path, found.problems[0].code) == (path, "symlink")


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("part", [lambda path: path, items_beside], ids=["record", "items"])
def test_a_missing_file_has_no_receipt(path, known, file, part):
    part(path).unlink()
    receipts = Receipts(file, known)
    receipts.give(path)
    assert not receipts.has(path)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("part", [lambda path: path, items_beside], ids=["record", "items"])
@pytest.mark.parametrize("what", ["pipe", "folder", "huge"])
def test_what_validation_refuses_to_read_is_not_read_for_a_receipt(
    path, known, file, monkeypatch, part, what
):
    spoilt = part(path)
    spoilt.unlink()
    if what == "pipe":
        os.mkfifo(spoilt)
    elif what == "folder":
        spoilt.mkdir()
    else:
        with spoilt.open("wb") as made:
            made.truncate(max(MOST_RECORD_BYTES, MOST_BYTES) + 1)  # sparse
    read = Path.read_bytes

    def refuse(one):
        assert one != spoilt, "a pipe would never end"
        return read(one)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert not Receipts(file, known).has(path)


def test_without_a_file_there_are_no_receipts(results, known, validated):
    for count in (3, 6):
        assert [one.ok for one in judge(results, known, None)] == [True] * 3
        assert len(validated) == count


@pytest.mark.parametrize("at", ["folder", "file/receipts.json"])
def test_receipts_that_cannot_be_written_stop_nothing(results, known, tmp_path, validated, at):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file")
    blocked = tmp_path / at
    for count in (3, 6):
        assert [one.ok for one in judge(results, known, blocked)] == [True] * 3
        assert len(validated) == count


def test_receipts_lie_in_the_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))
    assert receipts_file() == tmp_path / "cache" / "leaderboard" / "receipts.json"


@pytest.mark.usefixtures("first")
def test_receipts_name_nothing_of_what_was_accepted(results, file):
    assert not list(results.rglob("receipts*"))
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in kept(file))
