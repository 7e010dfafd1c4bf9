"""Drift and movement to show: figures that are easy to tell apart, made without a model."""

from __future__ import annotations

from sftbench.analysis.drift import DriftResult, DriftRow, Mean, PaperRow
from sftbench.analysis.movement import TensorMovement, movement_result
from sftbench.analysis.summary import Summary

FLOOR = "base+again(1)"
LAYERS = 6
MODULES = {
    "q_proj": (64, 64),
    "up_proj": (160, 64),
    "down_proj": (64, 160),
    "input_layernorm": (64,),
}


def mean(value: float, n: int = 120, *, bounds: bool = True) -> Mean:
    low, high = (0.8 * value, 1.25 * value) if bounds else (None, None)
    return Mean(value=value, low=low, high=high, median=0.6 * value, n=n, clusters=n // 3)


def rows(variant: str, size: float, relation: str) -> list[DriftRow]:
    def row(form: str, by: str, key: str, value: float) -> DriftRow:
        return DriftRow(
            variant=variant, form=form, by=by, key=key, tuned_base=mean(value),
            base_tuned=mean(0.9 * value),
        )  # fmt: skip

    found = []
    for form, factor in (("cloze", 2.0), ("question", 1.0)):
        found.append(row(form, "form", "", size * factor))
        kinds = ("answer", "end") if form == "question" else ("lead-in", "answer", "end")
        found += [row(form, "kind", kind, size * factor / (i + 1)) for i, kind in enumerate(kinds)]
        found += [row(form, "position", str(at), size * factor / (at + 1)) for at in range(5)]
        found += [row(form, "level", str(at), size * factor) for at in range(5)]
        found.append(row(form, "relation", relation, size * factor))
        found += [row(form, "domain", name, size * factor) for name in ("in", "out")]
    return found


def drift_of(summary: Summary, relation: str = "country_capital") -> DriftResult:
    sizes = {
        "tuned": 0.31,
        **{one.name: 0.2 / place for place, one in enumerate(summary.restored, 1)},
        "base+noise(1)": 0.013,
        FLOOR: 3e-13,
    }
    paper = [
        PaperRow(variant=name, level=level, relation=None, kl=mean(size * 0.7, 40))
        for name, size in sizes.items()
        for level in (1, 4, None)
    ]
    return DriftResult(
        exact=True,
        facts=400,
        own=210,
        early=190,
        early_within=5,
        templates={relation: "The capital of {subject} is"},
        rows=tuple(row for name, size in sizes.items() for row in rows(name, size, relation)),
        paper=tuple(paper),
        floor=FLOOR,
        nulls=("base+noise(1)",),
        beyond=0.0,
        seconds=12.0,
    )


def with_drift(summary: Summary, relation: str = "country_capital") -> Summary:
    """Add how predictions and weights moved, for the variants of the summary."""
    tensors = [
        TensorMovement(
            name=f"model.layers.{layer}.{module}.weight",
            layer=layer,
            module=module,
            size=shape[0] * (shape[1] if len(shape) > 1 else 1),
            norm=0.1 * (1 + layer),
            base_norm=10.0,
            unchanged=10 * layer,
            zero_base=1,
            smaller=min(shape) if len(shape) > 1 else None,
            effective_rank=20.0 + layer if len(shape) > 1 else None,
            stable_rank=4.0 if len(shape) > 1 else None,
            dot=0.001 * layer,
            other_norm=0.2,
        )
        for layer in range(LAYERS)
        for module, shape in MODULES.items()
    ]
    changed = {"drift": drift_of(summary, relation), "movement": movement_result(tensors, "other")}
    return summary.model_copy(update=changed)
