"""A record in the schema of Every Eval Ever (0.3.0), which many evaluations share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sftbench.analysis.evidence import EstimateRecord
from sftbench.analysis.summary import DOMAIN_NAMES
from sftbench.common.digests import digest_of
from sftbench_leaderboard.record import Headline, LeaderboardRecord

VERSION = "0.3.0"
BENCHMARK = "sftbench"
METHOD = "score interval, stratified by relation and clustered by answer"


_Figure = tuple[str, float | None, EstimateRecord | None, dict[str, str]]


def every_eval_ever(record: LeaderboardRecord, organization: str) -> dict[str, Any]:
    """Return a record as one JSON value of that schema.

    Args:
        record: the record.
        organization: who provides the data.
    """
    org = record.model.name.partition("/")[0]
    stamp = str(int(datetime.fromisoformat(record.made).timestamp()))
    return {
        "schema_version": VERSION,
        "evaluation_id": f"{BENCHMARK}/{record.model.name}/{record.model.digest}/{stamp}",
        "evaluation_timestamp": stamp,
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": "sftbench leaderboard",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "sftbench",
            "version": record.software.get("sftbench", "unknown"),
            "additional_details": dict(record.software),
        },
        "model_info": {
            "name": record.model.name,
            "id": record.model.name,
            "developer": org,
            "inference_engine": {"name": record.engine.get("engine", "unknown")},
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                "variant": record.model.variant,
                "variant_digest": record.model.digest,
                "base": record.base.name,
                "base_digest": record.base.digest,
            },
        },
        "evaluation_results": [one for each in record.domains for one in _results(record, each)],
    }


def file_of(record: LeaderboardRecord) -> Path:
    """Return where the record lies in a repository of Every Eval Ever; the UUID is always alike."""
    org, _, model = record.model.name.partition("/")
    named = digest_of([record.base.digest, record.model.digest, record.suite.name])
    return Path("data", BENCHMARK, org, model, f"{uuid.UUID(hex=named, version=4)}.json")


def _results(record: LeaderboardRecord, one: Headline) -> Iterator[dict[str, Any]]:
    figures: tuple[_Figure, ...] = (
        ("knowledge_retention", one.retention.score, one.score_interval, _levels(one)),
        ("accuracy_macro", one.macro, one.macro_interval, {}),
    )
    for name, score, interval, details in figures:
        if score is not None:
            yield {
                "evaluation_result_id": f"{record.suite.name}.{one.domain}.{name}",
                "evaluation_name": f"{record.suite.name} ({DOMAIN_NAMES[one.domain]})",
                "source_data": {
                    "dataset_name": record.facts.name,
                    "source_type": "other",
                    "additional_details": {"digest": record.facts.digest},
                },
                "metric_config": {
                    "metric_id": f"{BENCHMARK}.{name}",
                    "metric_name": name.replace("_", " "),
                    "metric_kind": "accuracy",
                    "metric_unit": "proportion",
                    "lower_is_better": False,
                    "score_type": "continuous",
                    "min_score": 0,
                    "max_score": 1,
                },
                "score_details": {
                    "score": score,
                    "details": details,
                    **({} if interval is None else {"uncertainty": _uncertainty(interval)}),
                },
                "generation_config": {
                    "generation_args": {
                        "temperature": 0,
                        "max_tokens": record.suite.max_new_tokens,
                        "execution_command": record.command,
                    }
                },
            }


def _levels(one: Headline) -> dict[str, str]:
    """Return kept and known facts of each level; values are text in this schema."""
    return {f"level_{row.level}": f"{row.kept}/{row.known}" for row in one.retention.levels}


def _uncertainty(interval: EstimateRecord) -> dict[str, Any]:
    return {
        "standard_error": {"value": interval.se, "method": "analytic"},
        "confidence_interval": {
            "lower": interval.low,
            "upper": interval.high,
            "confidence_level": 0.95,
            "method": METHOD,
        },
        "num_samples": interval.n,
    }
