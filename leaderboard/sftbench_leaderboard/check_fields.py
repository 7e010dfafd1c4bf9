"""What a record says of itself, held against itself: time, suite, variant, digests and counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sftbench.analysis.summary import TaskResult
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Tuned, parse_variant
from sftbench.common.errors import SftbenchError
from sftbench.facts.prompts import PROMPTS
from sftbench.scoring.suite import SUITE
from sftbench_leaderboard.layout import suite_name
from sftbench_leaderboard.problems import Problem
from sftbench_leaderboard.record import LeaderboardRecord, LossCounts

EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
"""How much later than now a record may be made: clocks and time zones differ."""
MOST_VALUE = 1e9
"""No metric of a task is larger."""
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|\+00:00)", re.ASCII)


def field_problems(record: LeaderboardRecord, now: datetime) -> Iterator[Problem]:
    """Yield what in a record cannot be, whatever its items are."""
    yield from _time_problems(record.made, now)
    yield from _suite_problems(record)
    yield from _variant_problems(record)
    yield from _count_problems(record)
    yield from _loss_problems(record)
    yield from _mastery_problems(record)
    yield from _task_problems(record)


def _time_problems(made: str, now: datetime) -> Iterator[Problem]:
    try:
        time = datetime.fromisoformat(made) if _TIME.fullmatch(made) else None
    except ValueError:
        time = None
    if time is None:
        yield Problem("timestamp", "is no date and time in UTC, ISO 8601", "made")
    elif time < EARLIEST:
        yield Problem("timestamp", "is before 2024, when there was no sftbench", "made")
    elif time > now + AHEAD:
        yield Problem("timestamp", "lies in the future", "made")


def _suite_problems(record: LeaderboardRecord) -> Iterator[Problem]:
    suite = record.suite
    prompt = PROMPTS[suite.prompt]
    for name, stated, fixed in (
        ("version", suite.version, SUITE),
        ("shots", suite.shots, prompt.shots),
        ("max_new_tokens", suite.max_new_tokens, prompt.max_new_tokens),
        ("matching", suite.matching, prompt.how),
    ):
        if stated != fixed:
            what = f"is {stated}, and the suite {SUITE} has {fixed} with this prompt"
            yield Problem("suite", what, f"suite.{name}")
    try:
        name = suite_name(record.facts.name, suite.prompt, chat=suite.chat)
    except SftbenchError as error:
        yield Problem("suite", error.what, "facts.name")
        return
    if suite.name != name:
        yield Problem("suite", f"must be called {name}", "suite.name")


def _variant_problems(record: LeaderboardRecord) -> Iterator[Problem]:
    model = record.model
    try:
        variant = parse_variant(model.variant)
        digest = variant.digest(record.base.digest, model.tuned_digest)
    except (SftbenchError, ValueError, ArithmeticError):
        yield Problem("variant", "is no variant", "model.variant")
        return
    if not isinstance(variant, Tuned | Restored) or variant.name != model.variant:
        what = "is neither 'tuned' nor a restored variant, written as sftbench writes it"
        yield Problem("variant", what, "model.variant")
    if digest != model.digest:
        what = f"follows from neither base, tuned model nor rule: they give {digest}"
        yield Problem("wrong-digest", what, "model.digest")
    if record.restore is not None and not isinstance(variant, Restored):
        yield Problem("variant", "the tuned model takes nothing back", "restore")
    if record.noise and not isinstance(variant, Tuned):
        yield Problem("variant", "random changes are of the tuned model's size", "noise")


def _count_problems(record: LeaderboardRecord) -> Iterator[Problem]:
    if record.facts.asked != record.items.rows:
        yield Problem("impossible-counts", "asked and rows differ", "facts.asked")
    if record.facts.limit is not None and record.facts.asked > record.facts.limit:
        yield Problem("impossible-counts", "more facts than the limit", "facts.asked")
    flips = record.checks.base_again
    if flips is not None and not (
        0 <= max(flips.changed, flips.worded) <= flips.n <= record.facts.asked
        and min(flips.changed, flips.worded) >= 0
        and flips.n > 0
        and abs(flips.share - flips.changed / flips.n) < 1e-9
        and 0 <= flips.interval.low <= flips.interval.high <= 1
    ):
        yield Problem("impossible-counts", "cannot be together", "checks.base_again")


def _loss_problems(record: LeaderboardRecord) -> Iterator[Problem]:
    told = record.loss or ()
    if len({one.domain for one in told}) != len(told):
        yield Problem("impossible-counts", "a domain stands twice", "loss")
    for one in told:
        headline = record.domain(one.domain)
        if headline is None or not _adds_up(one, headline.outcomes.lost):
            yield Problem("impossible-counts", "does not add up to the lost facts", "loss")


def _adds_up(one: LossCounts, lost: int) -> bool:
    kinds = one.counts.model_dump()
    stated = kinds.pop("lost")
    return (
        min(kinds.values()) >= 0
        and sum(kinds.values()) == stated == lost
        and all(came <= lost for came in one.forms.values())
    )


def _mastery_problems(record: LeaderboardRecord) -> Iterator[Problem]:
    """Yield tables that do not hold each fact of a level once."""
    tables = record.mastery or ()
    if len({one.domain for one in tables}) != len(tables):
        yield Problem("impossible-counts", "a domain stands twice", "mastery")
    for table in tables:
        headline = record.domain(table.domain)
        levels = {one.level: one.n for one in headline.levels} if headline else {}
        facts = [levels.get(level, 0) for level in range(len(table.before))]
        if any([sum(row) for row in grid] != facts for grid in (table.before, table.after)):
            what = "does not hold the facts of each level once"
            yield Problem("impossible-counts", what, "mastery")


def _task_problems(record: LeaderboardRecord) -> Iterator[Problem]:
    names = [_names(tasks) for tasks in (record.tasks, record.base_tasks)]
    if names[0] != names[1]:
        what = "the base has figures of other tasks, so that there is no gain"
        yield Problem("impossible-counts", what, "base_tasks")
    if len(set(names[0])) != len(names[0]):
        yield Problem("impossible-counts", "a figure stands twice", "tasks")
    if any(one.n < 1 or (one.stderr or 0) < 0 for one in (*record.tasks, *record.base_tasks)):
        yield Problem("impossible-counts", "documents or an error below zero", "tasks")
    if any(abs(one.value) > MOST_VALUE for one in (*record.tasks, *record.base_tasks)):
        yield Problem("impossible-counts", "a figure that no task gives", "tasks")


def _names(tasks: tuple[TaskResult, ...]) -> list[tuple[str, str, bool | None]]:
    return [(one.task, one.metric, one.higher_is_better) for one in tasks]
