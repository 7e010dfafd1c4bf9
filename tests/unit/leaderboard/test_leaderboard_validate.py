"""Validation: every rule refuses what breaks it, by its code, and one bad file stops no other."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from leaderboards import NAME, change, change_items, put, restamp
from sftbench_leaderboard.folder import verdicts
from sftbench_leaderboard.items import ITEMS, MOST_BYTES
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.problems import CODES
from sftbench_leaderboard.strict_json import RefusedError, read_strictly
from sftbench_leaderboard.validate import MOST_RECORD_BYTES, validate

from sftbench.checkpoints.variants import TUNED
from sftbench.common.digests import digest_of_lines

pytestmark = pytest.mark.unit


def codes(path, known):
    verdict = validate(path, known)
    assert verdict.ok == (not verdict.problems)
    assert all(one.code in CODES and str(one).isascii() for one in verdict.problems)
    return [one.code for one in verdict.problems]


def test_records_that_were_submitted_are_accepted(results, known):
    found = list(verdicts(results, known))
    assert [one.ok for one in found] == [True] * 3


SOON = (datetime.now(UTC) + timedelta(days=3)).isoformat()
FIELDS = [
    ("made", "2026-11-28", "timestamp"),
    ("made", "2023-12-31T23:59:59Z", "timestamp"),
    ("made", SOON, "timestamp"),
    ("made", "2026-11-28T01:02:03+02:00", "timestamp"),
    ("made", "2026-02-30T01:02:03Z", "timestamp"),
    ("schema_version", 2, "schema"),
    ("schema_version", ..., "schema"),
    ("surplus", 1, "schema"),
    ("suite", None, "schema"),
    ("suite.version", "0.9", "suite"),
    ("suite.shots", 3, "suite"),
    ("suite.max_new_tokens", 64, "suite"),
    ("suite.matching", "words", "suite"),
    ("suite.name", "numbers-fewshot", "suite"),
    ("facts.name", "other", "suite"),
    ("facts.name", "Numbers", "foreign-facts"),
    ("facts.asked", 41, "impossible-counts"),
    ("facts.limit", 39, "impossible-counts"),
    ("facts.digest", "0" * 32, "foreign-facts"),
    ("facts.asked_digest", "0" * 32, "wrong-digest"),
    ("card.canonical", True, "unknown-card"),
    ("card.estimator", "sampled2", "wrong-digest"),
    ("base.digest", "0" * 32, "wrong-digest"),
    ("model.digest", "0" * 32, "wrong-digest"),
    ("model.tuned_digest", "0" * 32, "wrong-digest"),
    ("model.name", "some-org/other", "place"),
    ("model.name", "../x", "place"),
    ("model.name", "<script>", "schema"),
    ("model.variant", "base", "variant"),
    ("model.variant", "tuned+restore(relative,5 %)", "variant"),
    ("model.variant", "tuned+restore(" * 8, "variant"),
    ("restore", {"removed": 0.5, "scalars": 0.1}, "variant"),
    ("recipe.note", "x" * 5000, "text"),
    ("recipe.note", "right\u202eto left", "text"),
    ("recipe.note", "half \ud800", "text"),
    ("recipe.note", "a\u0000b", "text"),
    ("recipe.note", {"deep": 1}, "schema"),
    ("domains.0.retention.score", 0.99, "headline"),
    ("domains.0.retention.score", None, "headline"),
    ("domains.0.retention.kept", 12, "headline"),
    ("domains.0.outcomes.lost", 0, "headline"),
    ("domains.0.levels.1.right", 4, "headline"),
    ("domains.0.score_interval.low", 0.7, "headline"),
    ("domains.0.score_interval", None, "headline"),
    ("domains.0.macro", 1.5, "schema"),
    ("domains.0.n", -1, "schema"),
    ("domains.0.n", 20.0, "schema"),
    ("domains.0.n", "20", "schema"),
    ("domains.1", ..., "headline"),
    ("base.domains.0.macro", 0.9, "headline"),
    ("noise", [], "headline"),
    ("noise.0.noise.value", 0.9, "headline"),
    ("noise.0.lost_by_noise.0", 9, "headline"),
    ("checks.base_again.changed", 41, "impossible-counts"),
    ("checks.base_again.share", 0.5, "impossible-counts"),
    ("loss", [{"domain": "in", "forms": {}, "counts": dict.fromkeys(
        ("lost", "format", "access", "knowledge", "undecided"), 4)}], "impossible-counts"),
    ("tasks", [{"task": "t", "metric": "acc", "value": 1.0, "n": 3}], "impossible-counts"),
    ("items.rows", 39, "impossible-counts"),
    ("items.sha256", "0" * 64, "items-digest"),
    ("items.file", "../../x.items.parquet", "schema"),
    ("items.file", "other.items.parquet", "place"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "code"), FIELDS, ids=range(len(FIELDS)))
def test_a_field_that_is_wrong_is_named(path, known, place, value, code):
    assert code in codes(change(path, put(place, value)), known)


def test_a_task_gain_is_taken_on_trust_and_counts_of_losses_must_add_up(path, known):
    figure = {"task": "t", "metric": "acc,none", "value": 0.5, "stderr": 0.1, "n": 30}
    counts = {"lost": 4, "format": 1, "access": 2, "knowledge": 1, "undecided": 0}
    change(path, put("tasks", [{**figure, "value": 0.7}]))
    change(path, put("base_tasks", [figure]))
    change(path, put("loss", [{"domain": "in", "counts": counts, "forms": {"longer": 1}}]))
    assert codes(path, known) == []


def same(counts=(4, 4, 4, 4, 4)):
    """Return facts by level, all measured again as they were."""
    return [[n if row == column else 0 for column in range(5)] for row, n in enumerate(counts)]


FELL = [[4, 0, 0, 0, 0], [3, 1, 0, 0, 0], [0, 2, 2, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 4, 0]]
"""Facts by level in the card, of 4 each, and measured again."""


def mastered(domain="in", before=None, after=FELL):
    return {"domain": domain, "before": before or same(), "after": after}


@pytest.mark.parametrize(
    "tables", [None, [], [mastered()], [mastered(), mastered("out")], [mastered("out", FELL)]]
)
def test_levels_measured_again_may_move_in_any_way(path, known, tables):
    change(path, put("mastery", tables))
    verdict = validate(path, known)
    assert verdict.problems == ()
    told = verdict.record.mastery
    assert told is None if tables is None else len(told) == len(tables)


MASTERY = [
    ([mastered(), mastered()], "a domain stands twice"),
    ([mastered(after=same((4, 4, 4, 4, 5)))], "the facts of each level once"),
    ([mastered(before=same((3, 4, 4, 4, 4)))], "the facts of each level once"),
    ([mastered(after=same((5, 3, 4, 4, 4)))], "the facts of each level once"),
    ([mastered(after=[list(row) for row in zip(*FELL, strict=True)])], "each level once"),
    ([mastered(before=same((0, 0, 0, 0, 0)))], "the facts of each level once"),
    ([mastered(), mastered("out", after=same((2**53, 4, 4, 4, 4)))], "each level once"),
]


@pytest.mark.parametrize(("tables", "what"), MASTERY, ids=range(len(MASTERY)))
def test_levels_measured_again_hold_each_fact_once(path, known, tables, what):
    (problem,) = validate(change(path, put("mastery", tables)), known).problems
    assert (problem.code, problem.where) == ("impossible-counts", "mastery")
    assert what in problem.what


def test_levels_of_a_domain_that_was_not_asked_are_refused(path, known):
    change(path, put("mastery", [mastered("out")]))
    change(path, put("domains.1", ...))
    assert codes(path, known) == ["impossible-counts", "headline"]


@pytest.mark.parametrize(
    "table",
    [
        mastered("both"), mastered(after=FELL[:4]), mastered(after=[*FELL, FELL[0]]),
        mastered(after=[row[:4] for row in FELL]), mastered(after=[[5, -1, 0, 0, 0], *FELL[1:]]),
        mastered(after=[[4.0, 0, 0, 0, 0], *FELL[1:]]), mastered(after=None),
        mastered(after=[[True] * 5, *FELL[1:]]), {"domain": "in", "before": FELL},
        {**mastered(), "relation": None},
    ],
    ids=range(10),
)  # fmt: skip
def test_levels_measured_again_are_two_tables_of_five_by_five_counts(path, known, table):
    assert codes(change(path, put("mastery", [table])), known) == ["schema"]
    assert codes(change(path, put("mastery", [mastered()] * 3)), known) == ["schema"]


def column(name, *, at=0, to):
    """Return an edit of items that puts a value into one row of a column."""

    def edit(frame):
        values = frame[name].to_list()
        values[at] = to
        return frame.with_columns(pl.Series(name, values, dtype=frame.schema[name]))

    return edit


ITEM_EDITS = [
    (column("fact_id", to="0" * 16), "foreign-items"),
    (column("fact_id", to="x" * 16), "items-bounds"),
    (lambda frame: frame.reverse(), "items-bounds"),
    (lambda frame: pl.concat([frame.head(1), frame]), "items-duplicates"),
    (lambda frame: frame.head(0), "schema"),
    (lambda frame: frame.drop("rate"), "items-columns"),
    (lambda frame: frame.with_columns(more=1), "items-columns"),
    (lambda frame: frame.with_columns(pl.col("level").cast(pl.Int64)), "items-columns"),
    (column("relation", to="of_others"), "foreign-items"),
    (column("domain", to="both"), "items-bounds"),
    (column("answer", to="Answer99"), "foreign-items"),
    (column("level", to=5), "items-bounds"),
    (column("level", to=None), "items-bounds"),
    (lambda frame: frame.with_columns(level=(pl.col("level") + 1) % 5), "wrong-levels"),
    (column("rate", to=float("nan")), "items-bounds"),
    (column("rate", to=None), "items-bounds"),
    (column("rate", to=0.33), "wrong-levels"),
    (column("logprob", to=float("inf")), "items-bounds"),
    (column("logprob", to=3.0), "items-bounds"),
    (column("logprob", to=None), "items-bounds"),
    (lambda frame: frame.with_columns(logprob=pl.lit(None, pl.Float64)), "items-bounds"),
    (column("logprob", to=-99.0), "headline"),
    (column("base_text", to="x" * 2001), "items-bounds"),
    (lambda frame: frame.with_columns(correct=~pl.col("correct")), "wrong-correct"),
    (lambda frame: frame.with_columns(base_correct=pl.lit(value=True)), "wrong-correct"),
    (lambda frame: frame.with_columns(text=pl.lit("no")), "wrong-correct"),
    (column("noise", to=[True]), "items-bounds"),
    (column("noise", to=[True, None]), "items-bounds"),
    (lambda frame: frame.with_columns(noise=pl.lit([False, False])), "headline"),
    (lambda frame: frame.filter(pl.col("correct") | ~pl.col("base_correct")), "selection"),
]


@pytest.mark.parametrize(("edit", "code"), ITEM_EDITS, ids=lambda one: one if isinstance(
    one, str) else "")  # fmt: skip
def test_items_that_are_wrong_are_named(path, known, edit, code):
    assert code in codes(change_items(path, edit), known)


def test_a_record_without_the_facts_that_were_lost_is_refused_even_where_it_adds_up(
    path, known, monkeypatch
):
    """Everything follows from the items that are left; only the choice of facts is wrong."""
    from sftbench_leaderboard.headline import figures_of

    change_items(path, lambda frame: frame.filter(pl.col("correct") | ~pl.col("base_correct")))
    items, _ = ITEMS.read(items_beside(path))
    figures = figures_of(items)

    def edit(content):
        content["facts"].update(
            asked=items.height, asked_digest=digest_of_lines(items["fact_id"]), limit=None
        )
        content["domains"] = [one.model_dump(mode="json") for one in figures.domains]
        content["base"]["domains"] = [one.model_dump(mode="json") for one in figures.base]
        content["noise"] = [one.model_dump(mode="json") for one in figures.noise]
        content["checks"] = {"base_again": None, "swap_parity": None}

    assert codes(change(path, edit), known) == ["selection"]
    # Without the card nobody can tell, and the record cannot be ranked either.
    assert codes(path, Known(known.facts)) == []


FILES = [
    (b"", "json"),
    (b"{", "json"),
    (b"\xff\xfe", "json"),
    (b"[" * 100_000, "json"),
    (b"[" * 20 + b"]" * 20, "json"),
    (b'{"a": 1, "a": 2}', "json"),
    (b'{"a": NaN}', "not-finite"),
    (b'{"a": 1e999}', "not-finite"),
    (b'{"a": -Infinity}', "not-finite"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not-finite"),
    (b'{"' + b"k" * 300 + b'": 1}', "text"),
    (b"[]", "schema"),
    (b"null", "schema"),
    (b'"' + b"x" * 1_000_000 + b'"', "text"),
    (b" " * (MOST_RECORD_BYTES + 1), "too-large"),
]


@pytest.mark.parametrize(("content", "code"), FILES, ids=lambda one: ascii(one)[:20])
def test_files_that_are_no_records(path, known, content, code):
    path.write_bytes(content)
    assert codes(path, known) == [code]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 1000, b"\x00" * 100, b"x,y\n1,2\n"])
def test_items_that_are_no_parquet(path, known, content):
    items_beside(path).write_bytes(content)
    assert codes(restamp(path), known) == ["items-unreadable"]


def test_items_that_are_too_large_are_not_read(path, known):
    with items_beside(path).open("r+b") as file:
        file.truncate(MOST_BYTES + 1)  # sparse
    assert codes(path, known) == ["too-large"]


def test_missing_files_and_links(path, known, tmp_path):
    beside = items_beside(path)
    moved = beside.rename(tmp_path / "elsewhere")
    assert codes(path, known) == ["items-missing"]
    beside.symlink_to(moved)
    assert codes(path, known) == ["symlink"]
    assert codes(tmp_path / "none.json", known) == ["unreadable"]
    assert codes(tmp_path / "nul\0.json", known) == ["unreadable"]


def test_numbers_and_keys_that_json_allows_are_read():
    assert read_strictly(b'{"a": [1, -2.5, "\xc3\xa9", true, null]}') == {
        "a": [1, -2.5, "é", True, None]
    }
    with pytest.raises(RefusedError):
        read_strictly(b"\xef\xbb\xbf{}")


def test_digests_follow_from_the_variant(path):
    content = json.loads(path.read_text())
    assert TUNED.digest("", content["model"]["tuned_digest"]) == content["model"]["digest"]
    assert content["model"]["name"] == NAME
