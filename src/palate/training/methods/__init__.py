"""The methods, in one explicit table: a stage of the config and how its method is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from palate.config.run import DpoConfig, GrpoConfig, KtoConfig, PpoConfig, RmConfig, RunConfig, SftConfig
from palate.training.methods.base import LossOutput, Method
from palate.training.methods.dpo import Dpo
from palate.training.methods.grpo import Grpo
from palate.training.methods.kto import Kto
from palate.training.methods.multi import MultiObjective
from palate.training.methods.ppo import Ppo
from palate.training.methods.ranked import Ranked
from palate.training.methods.rm import Rm
from palate.training.methods.sft import Sft

__all__ = ["METHODS", "LossOutput", "Method", "build_method"]


def _dpo(config: RunConfig) -> Method[Any]:
    assert isinstance(config, DpoConfig)
    first, *others = config.objectives
    if first.row.family == "ranked":
        return Ranked(first.row.name, first.options)
    if "dimension_weights" in first.row.options:
        return MultiObjective(first.row.name, first.options)
    return Dpo(first.row.name, first.options, weight=first.weight, others=others)


def _kto(config: RunConfig) -> Method[Any]:
    assert isinstance(config, KtoConfig)
    return Kto(config.objectives[0].row.name, config.objective_options, cutoff_len=config.cutoff_len)


def _ppo(config: RunConfig) -> Method[Any]:
    assert isinstance(config, PpoConfig)
    return Ppo(config)


def _grpo(config: RunConfig) -> Method[Any]:
    assert isinstance(config, GrpoConfig)
    return Grpo(config)


def _rm(config: RunConfig) -> Method[Any]:
    assert isinstance(config, RmConfig)
    return Rm(config.objectives[0].row.name, config.objective_options, margin_weight=config.margin_weight)


def _sft(config: RunConfig) -> Method[Any]:
    assert isinstance(config, SftConfig)
    return Sft()


METHODS: Mapping[str, Callable[[RunConfig], Method[Any]]] = MappingProxyType(
    {"dpo": _dpo, "grpo": _grpo, "kto": _kto, "ppo": _ppo, "rm": _rm, "sft": _sft}
)


def build_method(config: RunConfig) -> Method[Any]:
    """The method of the config's stage."""
    return METHODS[config.stage](config)
