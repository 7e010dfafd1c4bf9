"""One process of a data parallel run: `python -m torch.distributed.run ... watched_processes.py`.

Arguments: the folder to write what this process saw into, and "train" or "fail".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from watched import sft_trainer

from sftbench import RetentionCallback
from sftbench.common.errors import SftbenchError

folder, what = Path(sys.argv[1]), sys.argv[2]
rank = os.environ["RANK"]
torch.set_num_threads(1)
trainer = sft_trainer(
    folder / "out", learning_rate=1e-2, max_steps=20, ddp_backend="gloo", bf16=False
)
callback = RetentionCallback(trainer, base="lab", every=2, probes=40, stop_below=0.9)
asked = []
real = callback._ask


def noting(model):
    asked.append(1)
    if what == "fail":
        raise RuntimeError("this process gave up")
    return real(model)


callback._ask = noting
trainer.add_callback(callback)
seen = {}
try:
    trainer.train()
    seen["stopped_at"] = callback.stopped_at
    seen["steps"] = [one.step for one in callback.history]
    seen["highs"] = [one.domains["in"].high for one in callback.history]
    seen["logged"] = sum("retention/in" in line for line in trainer.state.log_history)
except (RuntimeError, SftbenchError) as error:
    seen["error"] = f"{type(error).__name__}: {error}"
seen["asked"] = len(asked)
seen["world"] = trainer.args.world_size
(folder / f"{rank}.json").write_text(json.dumps(seen))
torch.distributed.destroy_process_group()
