"""What the lm-eval models of variants share: how arguments reach them, what results record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from sftbench.engines.protocol import Engine
from sftbench.harness.task import end_plainly_on_our_errors
from sftbench.harness.variant_args import NAMES, asked_of, require_known
from sftbench.harness.variant_weights import Found, find

IGNORED = ("trust_remote_code",)
"""lm-eval's `--trust_remote_code` sets it for the tasks' data; a model's own code is never run."""


class VariantLM:
    """A mixin for a model of lm-eval.

    Attributes:
        sftbench: what results say of the variant, under ``config``.
    """

    sftbench: Mapping[str, Any]

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> Self:
        """Create it from "key=value,key=value", as lm-eval does."""
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> Self:
        """Create it from `--model_args`, which come before --batch_size and --device."""
        end_plainly_on_our_errors()
        flags = {key: one for key, one in (additional_config or {}).items() if one is not None}
        return cls(**{**flags, **arg_dict})

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval puts into the ``config`` of its results."""
        known = getattr(super(), "get_model_info", dict)
        return {**known(), "sftbench": dict(self.sftbench)}


def take(
    args: Mapping[str, Any], known: tuple[str, ...], *, model: str, dtype: str
) -> tuple[Found, dict[str, Any]]:
    """Return the variant that arguments ask for, and those that are for the model itself.

    Args:
        args: all arguments.
        known: the names of the model's own.
        model: what errors call it.
        dtype: number format of the engine's weights.

    Raises:
        SftbenchError: an argument is not known, or see `asked_of` and `find`.
    """
    own = {name: one for name, one in args.items() if name not in (*NAMES, *IGNORED)}
    require_known(own, (*known, *NAMES), model)
    return find(asked_of(args), dtype), own


def recorded(found: Found, engine: Engine, batch_size: object) -> dict[str, Any]:
    """Return the record of a variant, with the engine and the batches that lm-eval sends."""
    how = {name: one for name, one in engine.describe().items() if name != "sample_rows"}
    return {**found.record, "engine": {**how, "batch_size": str(batch_size)}}
