"""From a config to a run directory."""

from __future__ import annotations

import contextlib
import sys

# With WANDB_MODE=offline this module of transformers greets on stdout as it is imported, where only results belong.
with contextlib.redirect_stdout(sys.stderr):
    import transformers.integrations.integration_utils  # noqa: F401
