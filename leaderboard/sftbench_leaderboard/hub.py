"""A record as Hugging Face shows it: `.eval_results/*.yaml`, and the model-index of a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sftbench.analysis.summary import DOMAIN_NAMES

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

    from sftbench_leaderboard.record import Headline, LeaderboardRecord

METRIC = "knowledge-retention"


class Source(NamedTuple):
    """Where the results come from.

    Attributes:
        dataset: the data set of the hub that the facts are in, "org/name".
        url: where the record is shown; None leaves it out.
        name: what to call that place.
    """

    dataset: str
    url: str | None = None
    name: str = "sftbench leaderboard"


def default_dataset(record: LeaderboardRecord) -> str:
    """Return what the data set of a fact set is called where nobody names it."""
    return f"sftbench/{record.suite.name.removesuffix('-chat').rpartition('-')[0]}"


def eval_results_yaml(record: LeaderboardRecord, source: Source) -> str:
    """Return the content of a file in `.eval_results/`: a list with one entry for each domain.

    The library has one number for an entry and no field for an interval, which stands in the notes.
    """
    from huggingface_hub import eval_result_entries_to_yaml

    return _yaml(eval_result_entries_to_yaml(_entries(record, source)))


def _entries(record: LeaderboardRecord, source: Source) -> list[EvalResultEntry]:
    from huggingface_hub import EvalResultEntry

    return [
        EvalResultEntry(
            dataset_id=source.dataset,
            task_id=f"{record.suite.name}-{one.domain}",
            value=one.retention.score,
            date=record.made,
            source_url=source.url,
            source_name=source.name if source.url else None,
            notes=_notes(record, one),
        )
        for one in record.domains
        if one.retention.score is not None
    ]


def model_index_yaml(record: LeaderboardRecord, source: Source) -> str:
    """Return the metadata of a model card with a model-index, as YAML."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        model_name=record.model.name.partition("/")[2],
        base_model=record.base.name if "/" in record.base.name else None,
        eval_results=_results(record, source),
    )
    return _yaml(data.to_dict())  # type: ignore[no-untyped-call]


def _results(record: LeaderboardRecord, source: Source) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            task_name="Knowledge kept by a fine-tune",
            dataset_type=source.dataset,
            dataset_name=f"{record.suite.name} ({DOMAIN_NAMES[one.domain]})",
            dataset_config=one.domain,
            dataset_split="test",
            metric_type=METRIC,
            metric_name="Knowledge retention",
            metric_value=one.retention.score,
            metric_args=_interval(one),
            source_name=source.name if source.url else None,
            source_url=source.url,
        )
        for one in record.domains
        if one.retention.score is not None
    ]


def _interval(one: Headline) -> dict[str, Any] | None:
    found = one.score_interval
    return None if found is None else {"low": found.low, "high": found.high, "n": found.n}


def _notes(record: LeaderboardRecord, one: Headline) -> str:
    found = one.score_interval
    bounds = "" if found is None else f"95 % interval {found.low:.4f} to {found.high:.4f}; "
    return (
        f"{METRIC}, {DOMAIN_NAMES[one.domain]}; {bounds}{one.retention.kept} of "
        f"{one.retention.known} known facts kept; {record.model.variant}; base "
        f"{record.base.name} ({record.base.digest}); suite {record.suite.version}; facts "
        f"{record.facts.digest}; card {record.card.digest}"
    )


def _yaml(value: object) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
