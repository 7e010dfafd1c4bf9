"""Mutated records and items: accepted and what they say, or rejected with a reason; no traceback.

Seeded, so that a failure can be had again. `SEED` and the number of a mutation name it.
"""

from __future__ import annotations

import copy
import json
import random
from functools import lru_cache

import polars as pl
import pytest
from leaderboards import change, compare, known_of, put, restamp, results_of
from sftbench_leaderboard import check_items
from sftbench_leaderboard.headline import difference, figures_of
from sftbench_leaderboard.items import ITEMS, read_items
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.problems import CODES
from sftbench_leaderboard.validate import parse_record, validate

pytestmark = pytest.mark.unit

SEED = 20261128
FIELDS, BYTES, VALUES, PARQUET = 1300, 400, 140, 360
"""Mutations of a record's values, of its bytes, of the values of its items, of their bytes."""
DECLARED = frozenset(
    ("command", "cost", "drift", "engine", "loss", "recipe", "restore", "software", "made",
     "update_norm", "mastery", "tasks", "base_tasks", "checks")
)  # fmt: skip
"""What a record says of itself and no item can tell."""
SAME = [[4 * (row == column) for column in range(5)] for row in range(5)]
"""Facts by level, of which each domain has 4 in each, all measured again as they were."""
NAMES = frozenset((("base", "name"), ("base", "tokenizer_digest"), ("model", "tokenizer_digest"),
                   ("model", "chat_template_digest"), ("model", "parameters")))  # fmt: skip
OF_CARD = frozenset((("card", "digest"), ("card", "estimator"), ("card", "settings_digest"),
                     ("facts", "limit"), ("facts", "part")))  # fmt: skip
HOSTILE = (
    None, True, False, 0, -1, 1, 2**63, -(2**70), 10**40, 0.5, -0.0, 1e-320, 1e308, [], {}, "",
    "NaN", "x" * 5_000, "x" * 100_000, "\u202egnp", "\x00", "\ud800", "../../etc/passwd",
    "<img src=x onerror=alert(1)>", "tuned", "base", "in", "out", "0" * 32, "9" * 300, "1e999",
    "2026-11-28T00:00:00Z", [[[[[[]]]]]], {"a": {"b": {}}}, ["in"] * 70, float("nan"),
    float("inf"), "tuned+restore(relative,1e999%)", "tuned+restore(absolute,\N{SUPERSCRIPT TWO}%)",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return the record to spoil, as a path, with its content, its items and what is known."""
    folder = tmp_path_factory.mktemp("fuzz")
    asked = compare(folder)
    path = results_of(asked, folder / "results")[0].path
    change(path, put("mastery", [{"domain": "in", "before": SAME, "after": SAME}]))
    return path, path.read_bytes(), items_beside(path).read_bytes(), known_of(asked)


@pytest.fixture(scope="module", autouse=True)
def remembered():
    """Compute the figures of the same items once: most mutations leave the items as they are."""
    frames = {}

    @lru_cache(maxsize=64)
    def by_content(content):
        return figures_of(frames[content])

    def figures(items):
        content = items.write_json()
        frames[content] = items
        return by_content(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_items, "figures_of", figures)
        yield


def places(value, way=()):
    """Yield the way to every value within a JSON value."""
    yield way
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from places(inner, (*way, key))


def spoilt(rng, content):
    """Return a record with one value replaced, shifted, taken out, doubled or put elsewhere."""
    root = {"": json.loads(content)}
    ways = [("", *way) for way in places(root[""])]
    *way, last = rng.choice(ways)
    above = root
    for part in way:
        above = above[part]
    act = rng.choice(("replace", "replace", "replace", "shift", "drop", "swap", "more"))
    value = above[last]
    if act == "drop" and way:
        del above[last]
    elif act == "shift" and isinstance(value, int | float) and not isinstance(value, bool):
        above[last] = rng.choice((value + 1, value - 1, -value, value * (1 + 1e-7), value / 3))
    elif act == "shift" and isinstance(value, str) and value:
        at = rng.randrange(len(value))
        above[last] = value[:at] + rng.choice("0aZ/._-+\u202e é") + value[at + rng.randrange(2) :]
    elif act == "swap":
        *other, end = rng.choice(ways)
        place = root
        for part in other:
            place = place[part]
        above[last] = copy.deepcopy(place[end])
    elif act == "more" and isinstance(value, dict):
        value[rng.choice(("note", "n", "level", "x" * 300, "\u202e", "__proto__"))] = 1
    elif act == "more" and isinstance(value, list):
        value.append(value[0] if value else 0)
    else:
        above[last] = rng.choice(HOSTILE)
    return json.dumps(root[""]).encode()


def broken(rng, content):
    """Return bytes with some flipped, put in, doubled or cut off."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(found)) if found else 0
        match rng.randrange(4):
            case 0 if found:
                found[at] = rng.randrange(256)
            case 1:
                found[at:at] = rng.choice((b"\x00", b"}", b"\xff", b'"', b",", b"1e", b"[[["))
            case 2:
                found[at:at] = found[at : at + rng.randrange(40)]
            case _ if rng.random() < 0.3:
                del found[at:]
            case _:
                del found[at : at + rng.randrange(1, 5)]
    return bytes(found)


def other_items(rng, frame):
    """Return items with one value, row or column that is another."""
    name = rng.choice(frame.columns)
    dtype = frame.schema[name]
    at, other = (rng.randrange(frame.height) for _ in range(2))
    match rng.randrange(6):
        case 0:
            return frame.drop(name)
        case 1:
            return frame.with_columns(pl.col(name).cast(pl.String, strict=False).alias(name)) if (
                dtype != pl.List(pl.Boolean)
            ) else frame.with_columns(pl.lit(1).alias(name))  # fmt: skip
        case 2:
            return pl.concat([frame.head(at), frame.tail(frame.height - other)])
        case 3:
            return frame.sample(fraction=1.0, shuffle=True, seed=rng.randrange(99))
        case _:
            values = frame[name].to_list()
            values[at] = rng.choice((values[other], *ODD[dtype]))
            return frame.with_columns(pl.Series(name, values, dtype=dtype))


ODD = {
    pl.String: (None, "", "x" * 3_000, "\x00", "\u202e", "in", "Answer3", " Answer99\n<b>"),
    pl.Int8: (None, -1, 5, 127, 0),
    pl.Float64: (None, -1.0, 0.5, 2.0, float("nan"), float("inf"), float("-inf"), 1e-310),
    pl.Boolean: (None, True, False),
    pl.List(pl.Boolean): (None, [], [True], [None, True], [True] * 40, [False, False]),
}


def judged(world, seed):
    """Validate the two files as they are; return whether they were accepted."""
    path, content, _, known = world
    verdict = validate(path, known)
    assert verdict.ok == (not verdict.problems), seed
    for problem in verdict.problems:
        assert problem.code in CODES, seed
        assert problem.code != "internal", (seed, problem)
        assert len(str(problem)) < 2_000, seed
        assert str(problem).isprintable(), seed
    if verdict.record is None:
        return False
    says = verdict.record.model_dump(mode="json")
    again = json.dumps(says).encode()
    assert parse_record(again) == verdict.record, seed
    figures = check_items.figures_of(read_items(items_beside(path).read_bytes()))
    for stated, true in zip(
        (verdict.record.domains, verdict.record.base.domains, verdict.record.noise), figures,
        strict=True,
    ):  # fmt: skip
        assert difference(plain(stated), plain(true)) is None, seed
    assert_same(says, json.loads(content), seed)
    return True


def plain(records):
    return [one.model_dump(mode="json") for one in records]


def assert_same(says, was, seed):
    """Assert that what is accepted differs only in what a record says of itself."""
    # Of a card that nobody knows, a record may say what it likes: it is not ranked then.
    other = says["card"]["digest"] != was["card"]["digest"]
    assert not (other and says["card"]["canonical"]), seed
    declared = NAMES | (OF_CARD if other else set())
    for key in set(says) - DECLARED - {"domains", "noise", "items"}:
        for name in says[key] if isinstance(says[key], dict) else ():
            if (key, name) not in declared and name != "domains":
                assert says[key][name] == was[key][name], (seed, key, name)


def accepted(world, what, count, spoil):
    """Return how many of so many mutations are accepted.

    Args:
        world: the record to spoil.
        what: what is spoilt, for whoever reads along.
        count: mutations, each of the record as it was.
        spoil: spoils one of the two files by a generator of random numbers.
    """
    path, content, items, _ = world
    found = 0
    for number in range(count):
        path.write_bytes(content)
        items_beside(path).write_bytes(items)
        spoil(random.Random(SEED + number))
        found += judged(world, number)
    print(f"{count} {what}: {found} accepted")
    return found


def test_mutated_values_of_a_record(world):
    path, content, _, _ = world

    def spoil(rng):
        path.write_bytes(spoilt(rng, content))

    assert 0 < accepted(world, "mutated values", FIELDS, spoil) < FIELDS / 2


def test_mutated_bytes_of_a_record(world):
    path, content, _, _ = world

    def spoil(rng):
        path.write_bytes(broken(rng, content))

    assert accepted(world, "records with mutated bytes", BYTES, spoil) < BYTES / 2


def test_mutated_values_of_items(world):
    path, _, items, _ = world
    items_beside(path).write_bytes(items)
    frame, _ = ITEMS.read(items_beside(path))

    def spoil(rng):
        other_items(rng, frame).write_parquet(items_beside(path))
        restamp(path)

    assert 0 < accepted(world, "items with mutated values", VALUES, spoil) < VALUES / 2


def test_mutated_bytes_of_items(world):
    """The digest is made to fit, as whoever means harm would do, so that the parser reads them."""
    path, _, items, _ = world

    def spoil(rng):
        items_beside(path).write_bytes(broken(rng, items))
        restamp(path)

    assert accepted(world, "items with mutated bytes", PARQUET, spoil) < PARQUET / 2


def test_what_was_not_mutated_is_accepted(world):
    assert accepted(world, "records as they were", 1, lambda rng: None) == 1
