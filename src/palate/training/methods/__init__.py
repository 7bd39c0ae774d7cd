"""The methods, in one explicit table: a stage of the config and how its method is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from palate.config.objectives import objective
from palate.config.run import DpoConfig, KtoConfig, RunConfig, SftConfig
from palate.training.methods.base import LossOutput, Method
from palate.training.methods.dpo import Dpo
from palate.training.methods.kto import Kto
from palate.training.methods.multi import MultiObjective
from palate.training.methods.ranked import Ranked
from palate.training.methods.sft import Sft

__all__ = ["METHODS", "LossOutput", "Method", "build_method"]


def _dpo(config: RunConfig) -> Method[Any]:
    assert isinstance(config, DpoConfig)
    row, options = objective(config.pref_loss), config.objective_options
    if row.family == "ranked":
        return Ranked(row.name, options)
    if "dimension_weights" in row.options:
        return MultiObjective(row.name, options)
    return Dpo(row.name, options)


def _kto(config: RunConfig) -> Method[Any]:
    assert isinstance(config, KtoConfig)
    return Kto(config.pref_loss, config.objective_options, cutoff_len=config.cutoff_len)


def _sft(config: RunConfig) -> Method[Any]:
    assert isinstance(config, SftConfig)
    return Sft()


METHODS: Mapping[str, Callable[[RunConfig], Method[Any]]] = MappingProxyType({"dpo": _dpo, "kto": _kto, "sft": _sft})


def build_method(config: RunConfig) -> Method[Any]:
    """The method of the config's stage."""
    return METHODS[config.stage](config)
