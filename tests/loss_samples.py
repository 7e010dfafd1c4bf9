"""Kinds of loss to show: figures that are easy to tell apart, made without a model."""

from __future__ import annotations

from report_samples import estimate

from sftbench.analysis.intervals import wilson
from sftbench.analysis.loss import (
    KINDS,
    Calibration,
    CalibrationBin,
    FormCheck,
    Healing,
    KindCounts,
    LevelMove,
    LevelTable,
    LossKinds,
    LossResult,
)
from sftbench.analysis.summary import Summary

BEFORE = ((80, 18, 2, 0, 0), (15, 62, 18, 5, 0), (0, 16, 52, 27, 5), (0, 3, 24, 46, 27),
          (0, 0, 3, 21, 176))  # fmt: skip
AFTER = ((84, 14, 2, 0, 0), (36, 50, 12, 2, 0), (14, 30, 38, 16, 2), (9, 18, 30, 29, 14),
         (8, 14, 26, 34, 118))  # fmt: skip


def kinds(variant: str, domain: str, *counts: int) -> LossKinds:
    """Return losses of the kinds format, access, knowledge and undecided."""
    named = dict(zip(KINDS, counts, strict=True))
    return LossKinds(
        variant=variant,
        domain=domain,
        counts=KindCounts(lost=sum(counts), **named),
        forms={"longer": counts[0] // 3, "paper": counts[0] // 2, "chat": counts[0] // 4},
    )


def calibrated(variant: str, domain: str, slope: float) -> Calibration:
    """Return a calibration whose share right rises with the confidence by `slope`."""
    bins = []
    for place in range(10):
        confidence = 0.08 + 0.1 * place
        right = round(60 * (0.05 + slope * confidence))
        low, high = wilson(right, 60)
        bins.append(
            CalibrationBin(n=60, confidence=confidence, accuracy=right / 60, low=low, high=high)
        )
    return Calibration(
        variant=variant, domain=domain, n=600, answer_logprob=-1.254 - (1 - slope),
        confidence=0.53, accuracy=sum(one.accuracy for one in bins) / 10, brier=0.1614,
        ece=sum(abs(one.accuracy - one.confidence) for one in bins) / 10, ece_chance=0.0441,
        ece_limit=0.0612, auroc=0.8125, bins=tuple(bins),
    )  # fmt: skip


def moves() -> tuple[LevelMove, ...]:
    """Return five levels measured again, of which the first shows no variation, and all facts."""
    return tuple(
        LevelMove(
            level=level,
            n=100 if level is not None else 500,
            levelled=0.24 * place,
            before=0.22 * place + 0.01,
            after=0.17 * place + 0.01,
            chance=None if level == 0 else estimate(0.01 - 0.02 * place, 0.015, least=-1, n=100),
            change=None if level == 0 else estimate(-0.05 * place, 0.03, least=-1, n=100),
        )
        for place, level in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (2.5, None))
    )


def with_loss(summary: Summary, relation: str = "country_capital") -> Summary:
    """Add all that tells kinds of loss apart, for the variants of the summary."""
    restored = [one.name for one in summary.restored]
    result = LossResult(
        estimator="likelihood",
        forms=("longer", "paper", "chat"),
        budget=64,
        kinds=(
            kinds("tuned", "in", 21, 14, 20, 5),
            kinds("tuned", "out", 12, 19, 8, 1),
            *(
                kinds(name, "in", 8 // i + 3, 9 + i, 14 + i, 4)
                for i, name in enumerate(restored, 1)
            ),
            *(kinds(name, "out", 6, 12, 5 * i, 1) for i, name in enumerate(restored, 1)),
        ),
        against_itself=(kinds("base", "in", 0, 33, 1, 5), kinds("base", "out", 0, 27, 0, 1)),
        kept=(kinds("tuned", "in", 0, 22, 2, 1), kinds("tuned", "out", 0, 14, 1, 0)),
        noise=tuple(
            kinds(f"base+noise({draw})", domain, 2, 9 + draw, 1, draw)
            for draw in (1, 2, 3)
            for domain in ("in", "out")
        ),
        more_tries=(
            FormCheck(domain="in", asked=120, came=4),
            FormCheck(domain="out", asked=0, came=0),
        ),
        healing=tuple(
            Healing(variant=name, domain=domain, kind=kind, lost=lost, healed=min(lost, place + i))
            for i, name in enumerate(restored, 1)
            for domain, counts in (("in", (21, 14, 20, 5)), ("out", (12, 19, 8, 0)))
            for place, (kind, lost) in enumerate(zip(KINDS, counts, strict=True))
        ),
        calibration=tuple(
            calibrated(name, domain, slope)
            for domain in ("in", "out")
            for name, slope in (("base", 0.93), ("tuned", 0.6), *((one, 0.7) for one in restored))
        ),
        levels={"in": moves(), "out": moves()},
        tables=(
            LevelTable(domain="in", relation=None, before=BEFORE, after=AFTER),
            LevelTable(domain="out", relation=None, before=BEFORE, after=AFTER),
            LevelTable(domain="in", relation=relation, before=BEFORE, after=AFTER),
            LevelTable(domain="in", relation="city_country", before=BEFORE, after=AFTER),
        ),
    )
    return summary.model_copy(update={"loss": result})
