"""A lower bound of the divergence where an engine shows the most probable tokens alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sftbench.drift.table import Row, has_paper_kl, row_of
from sftbench.drift.texts import Text

Top = Mapping[int, float]
"""Log-probability, nats, of the most probable tokens by their ids."""
ROUNDING = 1e-6
"""What a sum of probabilities may be off by: engines give log-probabilities in float32."""


class Bound(NamedTuple):
    """Lower bounds of both divergences, nats, and the variant's mass that was compared."""

    tuned_base: float
    base_tuned: float
    covered: float


def lower_bound(tuned: Top, base: Top) -> Bound:
    """Return lower bounds of KL(tuned || base) and KL(base || tuned).

    Tokens that both lists hold are compared one by one, all others as one: to merge outcomes
    never enlarges a divergence (the data-processing inequality; Cover and Thomas 2006, theorem
    2.8.1). What rounding hides of the others counts as what makes the bound lowest.

    Args:
        tuned: of the variant.
        base: of the base.
    """
    both = sorted(tuned.keys() & base.keys())
    p = [math.exp(tuned[token]) for token in both]
    q = [math.exp(base[token]) for token in both]
    forward = math.fsum(a * (tuned[t] - base[t]) for a, t in zip(p, both, strict=True))
    backward = math.fsum(b * (base[t] - tuned[t]) for b, t in zip(q, both, strict=True))
    p_rest, q_rest = (max(0.0, 1 - math.fsum(one)) for one in (p, q))
    return Bound(
        max(0.0, forward + _term(p_rest, q_rest)),
        max(0.0, backward + _term(q_rest, p_rest)),
        1 - p_rest,
    )


def _term(p: float, q: float) -> float:
    """Return the least p ln(p / q) of the rest that goes with its rounded probabilities.

    A model that is all but certain leaves a rest that float32 cannot tell from 0: taken as it is,
    its logarithm would make a bound that lies nats above the divergence.
    """
    q += ROUNDING  # the term falls as q grows, and is least at p = q / e
    p = min(max(q / math.e, p - ROUNDING), p + ROUNDING)
    return p * math.log(p / q)


def bound_rows(
    texts: Sequence[Text], tuned: Sequence[Sequence[Top]], base: Sequence[Sequence[Top]]
) -> list[Row]:
    """Return a row of `table.DRIFT` (without the variant) for each text and position.

    Args:
        texts: what was read.
        tuned: of each text and position the most probable tokens of the variant.
        base: of the base.
    """
    rows = []
    for text, mine, theirs in zip(texts, tuned, base, strict=True):
        for position, (after, before) in enumerate(zip(mine, theirs, strict=True)):
            found = lower_bound(after, before)
            paper = paper_kl(after, before) if has_paper_kl(text, position) else None
            figures = {
                "kl_tuned_base": found.tuned_base,
                "kl_base_tuned": found.base_tuned,
                "covered": found.covered,
            }
            rows.append(row_of(text, position, paper_kl=paper, beyond=0.0, **figures))
    return rows


def paper_kl(tuned: Top, base: Top, k: int = 10) -> float | None:
    """Return the paper's figure, exactly, where the base's list holds the variant's first `k`.

    Log-probabilities are logits but for a constant, which the softmax over the `k` takes away.
    """
    first = sorted(tuned, key=lambda token: (-tuned[token], token))[:k]
    if len(first) < k or any(token not in base for token in first):
        return None
    log_p, log_q = ([side[token] for token in first] for side in (tuned, base))
    p_sum, q_sum = (math.log(math.fsum(map(math.exp, one))) for one in (log_p, log_q))
    return max(
        0.0,
        math.fsum(
            math.exp(a - p_sum) * ((a - p_sum) - (b - q_sum))
            for a, b in zip(log_p, log_q, strict=True)
        ),
    )
