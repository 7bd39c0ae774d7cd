"""Learning rate schedules of transformers and their settings, without importing transformers."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

Schedule: TypeAlias = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
]

_MIN_LR = ("min_lr", "min_lr_rate")
_PLATEAU = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")

# schedule → its settings in lr_scheduler_kwargs
SETTINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "linear": (),
        "cosine": ("num_cycles",),
        "cosine_with_restarts": ("num_cycles",),
        "polynomial": ("lr_end", "power"),
        "constant": (),
        "constant_with_warmup": (),
        "inverse_sqrt": ("timescale",),
        "reduce_lr_on_plateau": _PLATEAU,
        "cosine_with_min_lr": ("num_cycles", *_MIN_LR),
        "cosine_warmup_with_min_lr": ("num_cycles", *_MIN_LR, "warmup_lr_rate"),
        "warmup_stable_decay": (
            *("num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"),
        ),
        "greedy": (*_PLATEAU, "warmup", "max_lr", "smooth", "window_size", "reset_start"),
    }
)
assert tuple(SETTINGS) == get_args(Schedule)

# schedule → settings, exactly one of which is required
NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cosine_with_min_lr": _MIN_LR,
        "cosine_warmup_with_min_lr": _MIN_LR,
        "warmup_stable_decay": ("num_decay_steps",),
        "greedy": ("min_lr",),  # its default, 1e-3, is above most learning rates
    }
)

_RAMPS = ("linear", "cosine", "1-sqrt")
# settings that are words → which; all others are numbers
WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"mode": ("min", "max"), "threshold_mode": ("rel", "abs"), "warmup_type": _RAMPS, "decay_type": _RAMPS}
)

BY_EVALUATION = ("reduce_lr_on_plateau", "greedy")
"""Schedules that change the learning rate at evaluations."""


def check_schedule(schedule: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError where `lr_scheduler_kwargs` has an unknown setting or value, or lacks a required setting."""
    known = SETTINGS[schedule]
    for name, value in settings.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            takes = f"takes {', '.join(known)}" if known else "takes none"
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"lr_scheduler_kwargs: {schedule} has no setting {name}, it {takes}{hint}")
        fits = value in WORDS[name] if name in WORDS else isinstance(value, int | float)
        if value is not None and not fits:
            demand = " or ".join(WORDS.get(name, ("a number",)))
            raise ValueError(f"lr_scheduler_kwargs: {name} must be {demand}, not {value}")
    needed = NEEDS.get(schedule, ())
    given = [name for name in needed if settings.get(name) is not None]
    if needed and len(given) != 1:
        example = f"lr_scheduler_kwargs: {{{needed[0]}: {'1e-7' if needed[0] == 'min_lr' else '100'}}}"
        wants = f"exactly one of {' and '.join(needed)}" if len(needed) > 1 else needed[0]
        raise ValueError(f"lr_scheduler_kwargs: {schedule} needs {wants}, as {example}")
