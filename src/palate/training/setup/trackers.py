"""Trackers are asked for their key before the run starts, not when it has scored the reference."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence

from palate.errors import ConfigError

_OFFLINE = ("offline", "disabled", "dryrun")


def check_trackers(names: Sequence[str]) -> None:
    """Refuses a tracker that could not start.

    Args:
        names: `report_to` of the config.

    Raises:
        ConfigError: the package of W&B is missing, there is no key for it, or the server does not take the key.
    """
    if "wandb" not in names:
        return
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError("report_to: wandb needs its package: pip install 'palate[wandb]', or leave it out")
    if os.environ.get("WANDB_MODE", "").lower() in _OFFLINE:
        return
    wandb = importlib.import_module("wandb")  # an optional extra
    offline = "set WANDB_MODE=offline to log without the network, or leave wandb out of report_to"
    try:
        logged_in = wandb.login(prompt=False)
    except wandb.errors.Error as error:
        why = str(error).strip().splitlines()[0]
        raise ConfigError(f"report_to: wandb does not take the key ({why}); log in again, or {offline}") from None
    if not logged_in:
        raise ConfigError(f"report_to: wandb has no key: set WANDB_API_KEY or run `wandb login`, {offline}")
