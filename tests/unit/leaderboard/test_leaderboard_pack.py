"""A results folder as one file: the same bytes back, and no file writes outside its folder."""

from __future__ import annotations

import io
import random
import tempfile

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from sftbench_leaderboard import pack as pack_module
from sftbench_leaderboard.folder import records_of, verdicts
from sftbench_leaderboard.items import MOST_BYTES
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.pack import COLUMNS, REMEDY, as_folder, pack
from sftbench_leaderboard.validate import MOST_RECORD_BYTES

from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

DIGEST = "0" * 32
PLACE = f"org__model/{DIGEST}/suite.json"
TEXT, BINARY, LIST = pa.string(), pa.binary(), pa.list_(pa.int64())
SEED = 20261128


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    """Return the folder in which temporary folders are made; it is empty before and after."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def contents(folder):
    """Return every file of a folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir()
    }


@pytest.fixture
def packed(results, tmp_path):
    file = tmp_path / "results.parquet"
    assert pack(records_of(results), file) == 3
    return file


@pytest.mark.parametrize("at_once", [1, 2, 3, 64])
@pytest.mark.usefixtures("scratch")
def test_a_folder_comes_back_as_it_was(results, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(pack_module, "AT_ONCE", at_once)
    file = tmp_path / "results.parquet"
    assert pack(records_of(results), file) == 3
    assert parquet.ParquetFile(file).num_row_groups == -(-3 // at_once)
    with as_folder(file) as folder:
        assert contents(folder) == contents(results)
        again = tmp_path / "again.parquet"
        pack(records_of(folder), again)
    assert again.read_bytes() == file.read_bytes()


def test_a_packed_folder_holds_a_row_for_each_record(packed, results):
    found = pl.read_parquet(packed)
    assert found.columns == list(COLUMNS)
    for (place, record, items), path in zip(found.iter_rows(), records_of(results), strict=True):
        assert place == path.relative_to(results).as_posix()
        assert (record, items) == (path.read_bytes(), items_beside(path).read_bytes())


@pytest.mark.usefixtures("scratch")
def test_what_is_packed_is_validated_alike(packed, results, known):
    with as_folder(packed) as folder:
        found = list(verdicts(folder, known))
        assert [one.path.relative_to(folder) for one in found] == [
            one.relative_to(results) for one in records_of(results)
        ]
        assert [one.record for one in found] == [one.record for one in verdicts(results, known)]


def test_nothing_else_of_a_folder_is_packed(results, tmp_path):
    (results / "README.md").write_text("Results.")
    file = tmp_path / "results.parquet"
    assert pack(records_of(results)[:1], file) == 1
    with as_folder(file) as folder:
        assert len(contents(folder)) == 2


def test_no_records_make_a_file_without_rows(tmp_path):
    file = tmp_path / "none.parquet"
    assert pack([], file) == 0
    with as_folder(file) as folder:
        assert contents(folder) == {}


def test_a_file_that_cannot_be_made_leaves_nothing(results, path, tmp_path):
    items_beside(path).unlink()
    with pytest.raises(FileNotFoundError):
        pack(records_of(results), tmp_path / "out" / "results.parquet")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_is_not_taken_for_the_file(results, tmp_path):
    with pytest.raises(SftbenchError, match="is a folder, and a file is to be written"):
        pack(records_of(results), tmp_path)
    assert list(tmp_path.iterdir()) == [results]


def test_a_folder_stands_for_itself(results):
    with as_folder(results) as folder:
        assert folder == results


def test_a_folder_that_is_not_there_is_missed_where_it_is_read(tmp_path):
    with (
        as_folder(tmp_path / "none") as folder,
        pytest.raises(SftbenchError, match="no such folder of results"),
    ):
        list(verdicts(folder))


def table(path=PLACE, record=b"{}", items=b"x", kinds=(TEXT, BINARY, BINARY)):
    """Return one row as it stands in a packed file."""
    columns = zip((path, record, items), kinds, strict=True)
    return pa.table(
        dict(zip(COLUMNS, (pa.array([one], kind) for one, kind in columns), strict=True))
    )


def write(tmp_path, rows):
    file = tmp_path / "in" / "results.parquet"
    file.parent.mkdir(exist_ok=True)
    parquet.write_table(rows, file)
    return file


def assert_refused(file, message):
    """Assert that a file is refused with a sentence, and that nothing is left of it."""
    outside = file.parents[1]
    before = contents(outside)
    with pytest.raises(SftbenchError, match=message) as refused, as_folder(file):
        raise AssertionError("was taken")
    assert refused.value.where == str(file)
    assert refused.value.remedy == REMEDY
    assert contents(outside) == before


def taken(file):
    """Return what a file puts into its folder, or the sentence that refuses it."""
    try:
        with as_folder(file) as folder:
            found = contents(folder)
    except SftbenchError as refused:
        return refused
    assert all(len(one.split("/")) == 3 for one in found)
    return found


NOWHERE = [
    "../x.json", "../../x.json", "/etc/x.json", f"../{DIGEST}/x.json", f"a__b/{DIGEST}/../x.json",
    "a__b/../x.json", f"..__../{DIGEST}/x.json", f"a__b/{DIGEST}/.x.json", f"/a__b/{DIGEST}/x.json",
    f"a__b/{DIGEST}/x.json\x00", f"a__b/{DIGEST}/x\n.json", f"a__b/{DIGEST}/X.json",
    f"a__b\\..\\c/{DIGEST}/x.json", f"a_b/{DIGEST}/x.json", f"__b/{DIGEST}/x.json",
    f"a__/{DIGEST}/x.json", f"a__b__/{DIGEST}/x.json", f"a__b/{DIGEST[1:]}/x.json",
    f"a__b/{DIGEST.upper()}g/x.json", f"con__b/{DIGEST}/x.json", f"a__b/{DIGEST}/",
    f"a__b/{DIGEST}/.json", f"~__b/{DIGEST}/x.json", f"C:__b/{DIGEST}/x.json", "x.json", "", "//",
    "..", f"a__b/{DIGEST}/x.json/y.json", f"a__{'b' * 97}/{DIGEST}/x.json",
    f"a__b/{DIGEST}/{'x' * 97}.json", None,
]  # fmt: skip


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("path", NOWHERE, ids=lambda one: ascii(one)[:40])
def test_a_path_that_is_no_place_of_a_record_is_refused(tmp_path, path):
    file = write(tmp_path, pa.concat_tables([table(), table(path)]))
    assert_refused(file, "row 1 is no record with its items")


@given(st.text(max_size=40) | st.tuples(*[st.text("a._-/\\\x00é", max_size=9)] * 3).map("/".join))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_path_leaves_the_folder(tmp_path, path):
    if any("\ud800" <= one <= "\udfff" for one in path):
        return  # no text that Arrow holds
    file = write(tmp_path, table(path))
    found = taken(file)
    if isinstance(found, SftbenchError):
        assert found.what == "row 0 is no record with its items"
    else:
        assert len(found) == 2
    assert set(contents(tmp_path)) == {"in/results.parquet"}


@pytest.mark.usefixtures("scratch")
def test_a_record_that_is_too_large_is_refused(tmp_path):
    rows = table(record=b" " * (MOST_RECORD_BYTES + 1))
    assert_refused(write(tmp_path, rows), "row 0 is no record with its items")


@pytest.mark.usefixtures("scratch")
def test_items_that_are_too_large_are_refused(tmp_path, monkeypatch):
    assert pack_module.MOST_BYTES == MOST_BYTES
    monkeypatch.setattr(pack_module, "MOST_BYTES", 5)
    rows = table(items=b"123456")
    assert_refused(write(tmp_path, rows), "row 0 is no record with its items")


@pytest.mark.usefixtures("scratch")
def test_files_of_the_size_that_is_allowed_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_module, "MOST_RECORD_BYTES", 3)
    monkeypatch.setattr(pack_module, "MOST_BYTES", 5)
    with as_folder(write(tmp_path, table(record=b"123", items=b"12345"))) as folder:
        assert contents(folder) == {
            PLACE: b"123", PLACE.replace(".json", ".items.parquet"): b"12345",
        }  # fmt: skip


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    "row",
    [
        {"record": None},
        {"items": None},
        {"record": "{}", "kinds": (TEXT, TEXT, BINARY)},
        {"items": "x", "kinds": (TEXT, BINARY, TEXT)},
        {"record": [1, 2], "kinds": (TEXT, LIST, BINARY)},
        {"record": 3, "kinds": (TEXT, pa.int64(), BINARY)},
        {"path": PLACE.encode(), "kinds": (BINARY, BINARY, BINARY)},
        {"path": [1, 2, 3], "kinds": (LIST, BINARY, BINARY)},
        {"path": 3, "kinds": (pa.int64(), BINARY, BINARY)},
    ],
    ids=range(9),
)
def test_values_of_another_type_are_refused(tmp_path, row):
    assert_refused(write(tmp_path, table(**row)), "row 0 is no record with its items")


@pytest.mark.usefixtures("scratch")
def test_a_path_that_is_no_text_is_refused(tmp_path):
    raw = pa.array([b"\xff\xfe/a/b"], BINARY)
    path = pa.Array.from_buffers(pa.string(), 1, raw.buffers())
    rows = table().set_column(0, "path", path)
    assert_refused(write(tmp_path, rows), "no Parquet file of results")


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    "edit",
    [
        lambda rows: rows.drop_columns(["items"]),
        lambda rows: rows.append_column("more", rows["path"]),
        lambda rows: rows.rename_columns(["path", "record", "item"]),
        lambda rows: rows.select(["record", "path", "items"]),
        lambda rows: rows.rename_columns(["path", "record", "record"]),
        lambda rows: rows.select([]),
    ],
    ids=["fewer", "more", "another", "in another order", "twice", "none"],
)
def test_other_columns_are_refused(tmp_path, edit):
    assert_refused(write(tmp_path, edit(table())), "not one of results")


@pytest.mark.usefixtures("scratch")
def test_the_items_of_a_record_are_no_results(path):
    assert_refused(items_beside(path), "not one of results")


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" * 1000, b"{}", b"path,record,items\n", b"PK\3\4"]
)
def test_what_is_no_parquet_is_refused(tmp_path, content):
    file = write(tmp_path, table())
    file.write_bytes(content)
    assert_refused(file, "is no Parquet file of results")


@pytest.mark.usefixtures("scratch")
def test_a_file_that_is_cut_off_is_refused(packed, tmp_path):
    for part in (0.3, 0.9, 0.999):
        file = write(tmp_path, table())
        content = packed.read_bytes()
        file.write_bytes(content[: int(len(content) * part)])
        assert_refused(file, "is no Parquet file of results")


def mutated(rng, content):
    found = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found[: rng.randrange(len(found))] if rng.random() < 0.2 else found)


@pytest.mark.usefixtures("scratch")
def test_mutated_bytes_are_taken_or_refused_in_a_sentence(tmp_path):
    buffer = io.BytesIO()
    parquet.write_table(table(record=b"ab" * 50), buffer)
    file, refused = write(tmp_path, table()), 0
    for number in range(300):
        file.write_bytes(mutated(random.Random(SEED + number), buffer.getvalue()))
        found = taken(file)
        if isinstance(found, SftbenchError):
            refused += 1
            assert (found.where, found.remedy) == (str(file), REMEDY), number
        assert set(contents(tmp_path)) == {"in/results.parquet"}, number
    assert 0 < refused < 300
