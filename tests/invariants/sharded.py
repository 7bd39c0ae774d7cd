"""As `several.py`, with FSDP2 on CPUs, and with a rank that dies.

accelerate shards on accelerators only and takes DDP elsewhere; here it is told that these are accelerators. The device
stays a CPU and the backend gloo. `KILLED=1:4` kills rank 1 after step 4.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType
from several import become_ranks

from palate.config.load import load_config
from palate.training.processes import leave_processes
from palate.training.run import train
from palate.training.trainer import PalateTrainer

_begin, _finish = PartialState.__init__, PalateTrainer.finish_step


def _as_accelerator(self: PartialState, *args: Any, **kwargs: Any) -> None:
    _begin(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


def _finish_or_die(self: PalateTrainer) -> dict[str, float]:
    found = _finish(self)
    if os.environ["KILLED"] == f"{os.environ['RANK']}:{self.state.global_step}":
        os.kill(os.getpid(), signal.SIGKILL)
    return found


if __name__ == "__main__":
    become_ranks()
    configs = [load_config(path).config for path in sys.argv[1:]]
    if configs[0].fsdp:
        PartialState.__init__ = _as_accelerator
    if "KILLED" in os.environ:
        PalateTrainer.finish_step = _finish_or_die  # type: ignore[method-assign]
    for config in configs:
        train(config)
    leave_processes()
