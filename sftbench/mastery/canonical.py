"""The one card of a base and a fact set that people share, and what names a card in a store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.mastery.card import MasteryCard
from sftbench.mastery.likelihood import LikelihoodEstimator

DTYPE = "float32"
FOLDER = "mastery"
_DIGEST = re.compile("[0-9a-f]{32}")


def canonical_settings() -> dict[str, Any]:
    """Return the settings of a canonical card: the default estimator, seed 0, in float32."""
    return {**LikelihoodEstimator().settings(), "dtype": DTYPE}


def is_canonical(card: MasteryCard) -> bool:
    """Return whether a card is one of all test facts, or of all facts, by canonical settings.

    Seeds come from the facts: a card of both splits gives test facts the same levels.
    """
    return is_record_canonical(card.record)


def is_record_canonical(record: Mapping[str, Any]) -> bool:
    """Return `is_canonical` of the card that has this record."""
    chosen = record.get("selection", {})
    whole = chosen.get("limit") is None and chosen.get("split") != "train"
    return bool(whole and record.get("settings") == canonical_settings())


def place_of(record: Mapping[str, Any]) -> str:
    """Return where a card lies in a store, by what made it.

    ``mastery/<base digest>/<facts digest>/<settings digest>.parquet``; the settings are those of
    the estimator and the facts that were chosen, shortened to 12 characters.

    Raises:
        SftbenchError: the record's digests are none; such a name could lie anywhere.
    """
    digests = [str(record.get(key)) for key in ("model_digest", "facts_digest")]
    if not all(_DIGEST.fullmatch(digest) for digest in digests):
        raise SftbenchError(
            "names its base and facts by what are no digests", remedy="Make it anew."
        )
    made = {key: record.get(key) for key in ("settings", "selection", "templates_digest")}
    return f"{FOLDER}/{digests[0]}/{digests[1]}/{digest_of(made)[:12]}.parquet"
