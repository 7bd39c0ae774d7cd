"""Trains each config file that is named, one after the other, in however many processes torchrun started."""

from __future__ import annotations

import gc
import sys

from palate.config.load import load_config
from palate.training.run import train
from palate.training.setup.environment import leave_processes

if __name__ == "__main__":
    gc.freeze()  # as in tests/conftest.py
    for path in sys.argv[1:]:
        train(load_config(path).config)
    leave_processes()
