"""Runs of the benchmarks: what counts as slower, what is refused, and the table of the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks.__main__ as command
from benchmarks.compare_runs import (
    SHARE,
    change_table,
    compare,
    failures,
    version_notes,
    with_second_look,
)
from benchmarks.performance_table import BEGIN, END, PAGE, markdown, page_with, saved_runs
from benchmarks.references import ratio_of
from benchmarks.saved_runs import (
    Machine,
    Measured,
    Run,
    read_measured,
    read_saved,
    require_saved,
    save,
    this_machine,
    together,
)
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

HERE = Machine(processor="A CPU @ 2.4 GHz", cores=2, memory=24)


def measured(name, ratio, reference="sums"):
    return Measured(
        name=name,
        what=f"Do {name}",
        reference=reference,
        ratio=ratio,
        spread=0.1,
        seconds=0.2,
        rounds=20,
    )


def run_of(*benchmarks, machine=HERE, workloads=1, **versions):
    return Run(
        machine=machine,
        workloads=workloads,
        made="2026-01-02T03:04:05+00:00",
        versions={"python": "3.11", **versions},
        benchmarks=benchmarks,
    )


def verdicts(saved, now, **options):
    return {one.name: one.verdict for one in compare(saved, now, **options)}


def written(folder, text):
    folder.mkdir(exist_ok=True)
    path = folder / f"{HERE.key}.json"
    path.write_text(text, encoding="utf-8")
    return path


# -- comparing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (10.0 * (1 + SHARE) + 0.01, "slower"),
        (10.0 * (1 + SHARE) - 0.01, "same"),
        (10.0, "same"),
        (10.0 / (1 + SHARE) + 0.01, "same"),
        (10.0 / (1 + SHARE) - 0.01, "faster"),
    ],
)
def test_a_ratio_may_move_by_the_share_and_no_more(ratio, verdict):
    changes = compare(run_of(measured("plan", 10.0)), run_of(measured("plan", ratio)))

    assert [one.verdict for one in changes] == [verdict]
    assert bool(failures(changes)) == (verdict == "slower")


def test_the_share_is_the_callers():
    saved, now = run_of(measured("plan", 10.0)), run_of(measured("plan", 11.0))

    assert verdicts(saved, now) == {"plan": "same"}
    assert verdicts(saved, now, share=0.05) == {"plan": "slower"}


def test_seconds_do_not_count():
    slow = measured("plan", 10.0).model_copy(update={"seconds": 20.0})

    assert verdicts(run_of(measured("plan", 10.0)), run_of(slow)) == {"plan": "same"}


def test_a_missing_benchmark_fails_a_whole_run_and_a_new_one_does_not():
    saved = run_of(measured("plan", 10.0), measured("gone", 1.0))
    changes = compare(saved, run_of(measured("plan", 10.0), measured("added", 1.0)))

    assert {one.name: one.verdict for one in changes} == {
        "plan": "same",
        "added": "new",
        "gone": "missing",
    }
    assert [one.name for one in failures(changes)] == ["gone"]


def test_of_a_part_what_is_not_in_it_is_left_out():
    saved = run_of(measured("plan", 10.0), measured("swap", 1.0))
    changes = compare(saved, run_of(measured("plan", 10.0)), whole=False)

    assert [one.name for one in changes] == ["plan"]
    assert failures(changes) == []


def test_against_another_reference_it_is_another_benchmark():
    saved = run_of(measured("plan", 10.0))
    changes = compare(saved, run_of(measured("plan", 10.0, reference="arithmetic")))

    assert [one.verdict for one in changes] == ["new", "missing"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"machine": HERE.model_copy(update={"cores": 8})}, "another machine .*8 cores"),
        ({"workloads": 2}, "other reference workloads"),
    ],
)
def test_runs_that_say_nothing_of_each_other_are_refused(other, said):
    with pytest.raises(SftbenchError, match=said):
        compare(run_of(measured("plan", 10.0), **other), run_of(measured("plan", 10.0)))


def test_a_second_look_takes_the_lower_ratio_and_leaves_the_others():
    now = run_of(measured("plan", 15.0), measured("swap", 15.0), measured("apply", 5.0))
    again = run_of(measured("plan", 10.0), measured("swap", 16.0))
    looked = with_second_look(now, again)

    assert [one.ratio for one in looked.benchmarks] == [10.0, 15.0, 5.0]


def test_other_software_is_said():
    saved = run_of(torch="2.13", numba="0.65")

    assert version_notes(saved, run_of(torch="2.14", numba="0.65")) == [
        "torch: 2.13 then, 2.14 now"
    ]
    assert version_notes(saved, run_of(torch="2.13")) == ["numba: 0.65 then, none now"]


def test_every_benchmark_has_a_row():
    saved = run_of(measured("plan", 10.0), measured("gone", 1.0))
    changes = compare(saved, run_of(measured("plan", 20.0), measured("added", 1.0)))

    assert change_table(changes).row_count == 3


# -- ratios ---------------------------------------------------------------------------------------


def test_a_round_is_held_against_the_references_around_it():
    found = ratio_of([2.0, 4.0, 8.0, 16.0], [0.5, 1.5, 2.5, 5.5, 10.5])

    assert found.ratio == pytest.approx(2.0)
    assert found.spread == pytest.approx(0.0)


def test_the_spread_is_a_part_of_the_ratio():
    one, twice = ([factor * value for value in (1.0, 2.0, 3.0, 4.0, 5.0)] for factor in (1, 2))

    assert ratio_of(one, [1.0] * 6).ratio == 3.0
    assert ratio_of(one, [1.0] * 6).spread == ratio_of(twice, [1.0] * 6).spread > 0


def test_of_several_runs_the_medians_are_kept_and_how_far_they_moved():
    runs = [run_of(measured("plan", ratio)) for ratio in (10.0, 13.0, 11.0)]
    (found,) = together(runs).benchmarks

    assert (found.ratio, found.rounds) == (11.0, 60)
    assert found.moved == pytest.approx(0.3)
    assert together(runs).runs == 3
    assert together(runs[:1]).benchmarks[0].moved == 0


def test_runs_that_lack_a_benchmark_are_not_put_together():
    with pytest.raises(SftbenchError, match="plan"):
        together(
            [run_of(measured("plan", 1.0), measured("swap", 1.0)), run_of(measured("swap", 1))]
        )


# -- files ----------------------------------------------------------------------------------------


def test_the_key_of_a_machine_is_a_file_name_without_surprises():
    assert HERE.key == "a-cpu-2-4-ghz-2-cores-24-gib"
    assert this_machine() == this_machine()


def test_what_is_saved_is_read_back(tmp_path):
    run = run_of(measured("plan", 10.0))
    path = save(run, tmp_path)

    assert path == tmp_path / f"{HERE.key}.json"
    assert require_saved(HERE, tmp_path) == run


def test_a_machine_without_a_saved_run_hears_in_one_line_what_to_do(tmp_path):
    with pytest.raises(SftbenchError, match="make bench-save") as caught:
        require_saved(HERE, tmp_path)

    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        json.dumps({**run_of().model_dump(mode="json"), "kind": "restore plan"}),
        run_of(measured("plan", 10.0)).model_dump_json().replace("10.0", "-1"),
        run_of(measured("plan", 10.0)).model_dump_json().replace('"rounds"', '"round"'),
    ],
)
def test_a_malformed_file_is_named(text, tmp_path):
    path = written(tmp_path, text)

    with pytest.raises(SftbenchError, match=path.name):
        read_saved(path)


def pytests(extra, **surroundings):
    """Return what pytest-benchmark writes of one benchmark, as far as it is read."""
    run = run_of()
    return {
        "benchmarks": [
            {
                "name": "bench_task_index",
                "stats": {"median": 0.25, "rounds": 31, "data": [0.25]},
                "extra_info": extra,
            }
        ],
        "sftbench": run.model_dump(include={"machine", "workloads", "made", "versions"}),
        **surroundings,
    }


def test_a_run_is_read_from_pytest_benchmark(tmp_path):
    extra = {"what": "Index", "reference": "interpreter", "ratio": 0.5, "spread": 0.2, "more": 1}
    path = written(tmp_path, json.dumps(pytests(extra)))
    (found,) = read_measured(path).benchmarks

    assert (found.name, found.what, found.ratio) == ("task index", "Index", 0.5)
    assert (found.seconds, found.rounds) == (0.25, 31)


@pytest.mark.parametrize("content", [pytests({}), pytests({}, sftbench={}), {}, []])
def test_other_files_of_pytest_benchmark_are_refused(content, tmp_path):
    path = written(tmp_path, json.dumps(content))

    with pytest.raises(SftbenchError, match="not a run of the benchmarks"):
        read_measured(path)


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch, tmp_path, capsys):
    """Return what compares runs that are given, in turn, with a saved one of ratio 10."""
    save(run_of(measured("plan", 10.0)), tmp_path)

    def call(*runs, options=(), machine=HERE):
        left = list(runs)
        monkeypatch.setattr(command, "this_machine", lambda: machine)
        monkeypatch.setattr(command, "require_saved", lambda one: require_saved(one, tmp_path))
        monkeypatch.setattr(command, "measured", lambda *_: left.pop(0))
        monkeypatch.setattr("sys.argv", ["benchmarks", "compare", *options])
        status = command.main()
        assert left == []
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


def test_a_regression_that_is_seen_twice_ends_with_1(compared):
    status, said = compared(run_of(measured("plan", 15.0)), run_of(measured("plan", 14.0)))

    assert status == 1
    assert "Slower by more than 30%, twice: plan" in said


def test_one_that_is_seen_once_ends_with_0(compared):
    status, _ = compared(run_of(measured("plan", 15.0)), run_of(measured("plan", 12.0)))

    assert status == 0


def test_what_is_not_measured_fails_unless_a_part_was_asked_for(compared):
    status, said = compared(run_of(measured("swap", 1.0)))
    assert status == 1
    assert "not measured now: plan" in said

    status, _ = compared(run_of(measured("swap", 1.0)), options=("-m", "not slow"))
    assert status == 0


def test_without_a_saved_run_nothing_is_measured(compared):
    status, said = compared(machine=HERE.model_copy(update={"memory": 8}))

    assert status == 2
    assert "no run is saved for this machine" in said


@pytest.mark.parametrize("name", ["save", "table"])
def test_a_part_is_neither_saved_nor_shown(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", name, "-m", "not slow"])

    assert command.main() == 2
    assert "no option -m here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        *(["compare", f"--share={share}"] for share in ("0", "-1", "inf", "nan", "much")),
        *(["save", f"--runs={runs}"] for runs in ("0", "-1", "1.5", "few")),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", *options])

    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "is no " in capsys.readouterr().err


# -- the page -------------------------------------------------------------------------------------


def test_the_page_shows_the_saved_runs():
    page = PAGE.read_text(encoding="utf-8")

    assert page == page_with(page, markdown(saved_runs())), "run: make bench-table"


def test_saved_runs_stand_under_their_keys():
    for path in sorted(Path(command.HERE / "runs").glob("*.json")):
        assert path.stem == read_saved(path).machine.key


def test_a_table_takes_the_place_of_the_one_before():
    page = f"above\n{BEGIN}\nold\n{END}\nbelow\n"

    assert page_with(page, "new") == f"above\n{BEGIN}\nnew\n{END}\nbelow\n"


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_marks_is_refused(page):
    with pytest.raises(SftbenchError, match="once each"):
        page_with(page, "new")


def test_the_table_has_a_row_for_each_benchmark():
    lines = markdown([run_of(measured("plan", 10.0), measured("swap", 0.25))]).splitlines()

    assert lines[0] == "A CPU @ 2.4 GHz, 2 cores, 24 GiB; 2026-01-02, one run; python 3.11:"
    assert lines[4:] == [
        "| plan | Do plan | sums | 10.0 | 10 % | 0 % | 0.20 |",
        "| swap | Do swap | sums | 0.250 | 10 % | 0 % | 0.20 |",
    ]
