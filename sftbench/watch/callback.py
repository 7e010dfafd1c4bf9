"""The callback for transformers' Trainer and trl. Heavy: it imports transformers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from sftbench.analysis.estimates import Estimate
from sftbench.common.errors import SftbenchError
from sftbench.engines.memory import free
from sftbench.engines.transformers import TransformersEngine
from sftbench.watch import live
from sftbench.watch.levelled import find_levelled, require_same_tokenizer, require_vocabulary
from sftbench.watch.probe import ProbeSet, ask, known_by, require_stoppable
from sftbench.watch.processes import on_main
from sftbench.watch.stop import Schedule

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard

logger = logging.getLogger(__name__)

FEW_FACTS = 30
"""Below this many in-domain facts, retention says little."""


class Probed(NamedTuple):
    """What one probe found.

    Attributes:
        step: optimiser steps that were done.
        domains: retention of each domain that has facts, "in" and "out".
        seconds: wall time of asking.
    """

    step: int
    domains: Mapping[str, Estimate]
    seconds: float

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by the names that they are logged under; retention as fractions."""
        found: dict[str, float] = {}
        for domain, one in self.domains.items():
            found[f"retention/{domain}"] = one.value
            found[f"retention/{domain}_low"] = one.low
            found[f"retention/{domain}_high"] = one.high
            found[f"retention/{domain}_facts"] = one.n
        return {**found, "retention/seconds": round(self.seconds, 3)}


class RetentionCallback(TrainerCallback):  # type: ignore[misc]
    """Asks the live model every few steps what of the base's knowledge is left, and can stop.

    The probe set is chosen once, before the first step: test facts of the mastery levels 1 to 4,
    balanced over level and domain, that the base answers right. The base is the model itself where
    it holds the base's weights; its adapters turned off, where it has any; otherwise (a run that
    is resumed, a model that was tuned before) the named base, loaded beside it for that long.
    After every `every` steps and after the last one the probe set is asked with the few-shot
    prompt of `compare`, greedily. Figures are logged by the trainer itself, as ``retention/in``
    and ``retention/out`` (the mean over levels of the share kept, a fraction), each with
    ``_low`` and ``_high`` (95 % interval) and ``_facts``, and ``retention/seconds``.

    With `stop_below`, training stops once the upper bound of in-domain retention was below it in
    `patience` consecutive probes. The weights that a run ends with are bit for bit those of a run
    without the callback, up to where it is stopped.

    In data parallel training the main process asks, the others wait. Sharded parameters (FSDP,
    DeepSpeed ZeRO-3, tensor parallel) are not supported, nor are prompt and prefix tuning.

    Args:
        trainer: the trainer that the callback is added to; the events of transformers do not pass
            it on, and only it can log to wherever it reports.
        base: the base that the mastery card is of: a folder, a hub id, or "lab", "smollm2".
        facts: a fact table, its file or its name; None for the one that the card levels.
        mastery: the base's mastery card, its file, or "canonical"; None for the one that ships.
        every: optimiser steps between two probes.
        probes: most facts in the probe set.
        stop_below: in-domain retention, a fraction, to stop below; None only watches.
        patience: consecutive probes that must show it.
        batch_size: prompts in one batch; halved where memory runs out.

    Attributes:
        history: every probe so far; the first one is of the model before the first step.
        stopped_at: the step at which the callback stopped training, or None.

    Raises:
        SftbenchError: an argument that cannot be meant; base, facts, card and tokenizer that do
            not belong together; a model that cannot be asked. Before the first step: the base
            answers nothing right, or too little for `stop_below`.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        base: str | Path,
        facts: str | Path | FactSet | None = None,
        mastery: str | Path | MasteryCard | None = None,
        every: int = 50,
        probes: int = 200,
        stop_below: float | None = None,
        patience: int = 1,
        batch_size: int = 16,
    ) -> None:
        self._schedule = Schedule(every, probes, stop_below, patience, batch_size)
        if not isinstance(trainer, Trainer):
            raise SftbenchError(
                f"is {type(trainer).__name__}, not a Trainer of transformers or trl",
                where="trainer",
                remedy="trainer.add_callback(RetentionCallback(trainer, base=...))",
            )
        if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            raise live.sharded()
        live.require_causal(trainer.model)
        # The others find what the first one has downloaded and hashed.
        with trainer.args.main_process_first(desc="sftbench: reading the base's levels"):
            self._levelled = find_levelled(base, facts, mastery)
        require_same_tokenizer(self._levelled, trainer.processing_class)
        require_vocabulary(self._levelled, trainer.model.get_input_embeddings().weight.shape[0])
        self._trainer = trainer
        self._probes: ProbeSet | None = None
        self.history: list[Probed] = []
        self.stopped_at: int | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: object,
    ) -> TrainerControl:
        """Choose the probe set, and log where the model stands before the first step."""
        live.require_whole(model)
        self.history.clear()
        self.stopped_at = None
        self._probe(state, control, model, lambda: self._begin(model))
        found = self.history[0].domains.get("in")
        size = 0 if found is None else found.n
        if size < FEW_FACTS and state.is_world_process_zero:
            logger.warning(
                "Retention in-domain rests on the %d facts that the base answers right: very "
                "little. A card with more facts, or more probes, tells more.",
                size,
            )
        return control

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: object,
    ) -> TrainerControl:
        """Probe every few steps and after the last, and stop where the rule says so."""
        last = control.should_training_stop
        if state.global_step % self._schedule.every and not last:
            return control
        self._probe(state, control, model, lambda: self._ask_at(state.global_step, model))
        # The first of the history is no probe of training.
        if not last and self._schedule.stops(self._highs()):
            self._stop(state, control)
        return control

    def _highs(self) -> list[float]:
        probed = (one.domains.get("in") for one in self.history[1:])
        return [one.high for one in probed if one is not None]

    def _stop(self, state: TrainerState, control: TrainerControl) -> None:
        control.should_training_stop = True
        self.stopped_at = state.global_step
        if not state.is_world_process_zero:
            return
        found = self.history[-1].domains["in"]
        logger.warning(
            "Training stops at step %d: in-domain it kept %.0f %% [%.0f, %.0f] of what the base "
            "knew, below %.3g %%.",
            state.global_step,
            *(100 * one for one in found.limited),
            100 * (self._schedule.stop_below or 0),
        )

    def _probe(
        self,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        work: Callable[[], dict[str, Estimate]],
    ) -> None:
        """Let the main process do the work, and let every process log what it found."""
        began = time.perf_counter()
        wants_log = control.should_log
        with live.undisturbed(model):
            found = on_main(
                lambda: Probed(state.global_step, work(), time.perf_counter() - began),
                main=state.is_world_process_zero,
                processes=self._trainer.args.world_size,
            )
            self.history.append(found)
            # In eval mode: trl's trainers would put what they gathered for the next log of
            # training into this one.
            self._trainer.log(found.metrics)
        # To log takes back that the trainer is to log after this event.
        control.should_log = wants_log

    def _begin(self, model: Any) -> dict[str, Estimate]:
        """Choose the probe set by the base's answers; return what the model itself answers."""
        if self._probes is not None:  # trained a second time: the base is still the base
            return self._ask(model)
        of_base = live.is_base(model, self._levelled.base)
        if of_base:
            with live.without_adapters(model):
                self._probes = self._known_by(model)
        else:
            self._probes = self._known_by_named_base(model)
        require_stoppable(self._probes, self._schedule)
        if of_base and not live.is_peft(model):
            return self._probes.retention([True] * self._probes.rows.height)
        return self._ask(model)

    def _known_by(self, base: Any) -> ProbeSet:
        return known_by(self._asking(base), self._levelled.rows, self._schedule.probes)

    def _known_by_named_base(self, model: Any) -> ProbeSet:
        """Ask the named base, loaded beside the model and like it."""
        from transformers import AutoModelForCausalLM

        plain = model.get_base_model() if live.is_peft(model) else model
        base = AutoModelForCausalLM.from_pretrained(
            self._levelled.base,
            dtype=plain.dtype,
            attn_implementation=plain.config._attn_implementation,
            local_files_only=True,
        )
        base.eval().to(plain.device)
        with self._trainer.accelerator.autocast():  # as the forward of the model that is trained
            probes = self._known_by(base)
        del base
        free()
        return probes

    def _ask(self, model: Any) -> dict[str, Estimate]:
        assert self._probes is not None  # chosen before the first step
        return self._probes.retention(self._asking(model)(self._probes.rows))

    def _ask_at(self, step: int, model: Any) -> dict[str, Estimate]:
        """Ask between two steps; an error says what training may have to do with it."""
        try:
            return self._ask(model)
        except SftbenchError as error:
            raise SftbenchError(
                error.what,
                where=f"RetentionCallback at step {step}",
                remedy="If training diverges, lower the learning rate; if memory runs out, lower "
                "the callback's batch_size.",
            ) from error

    def _asking(self, model: Any) -> Callable[[Any], list[bool]]:
        engine = TransformersEngine.around(
            model, self._levelled.tokenizer, batch_size=self._schedule.batch_size
        )
        return lambda rows: ask(engine, rows)
