"""The methods, in one explicit table: a stage of the config and how its method is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from palate.config.run import DpoConfig, RunConfig, SftConfig
from palate.training.methods.base import LossOutput, Method
from palate.training.methods.dpo import Dpo
from palate.training.methods.sft import Sft

__all__ = ["METHODS", "LossOutput", "Method", "build_method"]


def _dpo(config: RunConfig) -> Method:
    assert isinstance(config, DpoConfig)
    return Dpo(config.pref_loss, config.objective_options)


def _sft(config: RunConfig) -> Method:
    assert isinstance(config, SftConfig)
    return Sft()


METHODS: Mapping[str, Callable[[RunConfig], Method]] = MappingProxyType({"dpo": _dpo, "sft": _sft})


def build_method(config: RunConfig) -> Method:
    """The method of the config's stage."""
    return METHODS[config.stage](config)
