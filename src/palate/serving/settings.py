"""What a gateway is started with: `serve.yaml`, or the options of `palate serve`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from palate.config.base import Fields
from palate.config.reader import ConfigEntry, read_config_file
from palate.config.secrets import find_secrets
from palate.errors import ConfigError
from palate.network.address import Address
from palate.registry.behaviour import RollbackFields
from palate.registry.versions import PRODUCTION


class ServedModelFields(Fields):
    """A model that is served: in this process (`model` or `alias`), or by another engine (`upstream`).

    With `alias` and `upstream`, the engine has the base, and the versions that the alias names are its adapters.
    """

    model: str | None = Field(None, description="Run, checkpoint, model folder, hub id or version.")
    alias: str | None = Field(None, description="Alias of the registry; followed while the server runs.")
    upstream: str | None = Field(None, pattern=r"^https?://", description="URL of an engine, up to /v1.")
    upstream_model: str | None = Field(None, description="The engine's name for the model; default: the name here.")
    key_variable: str = Field("PALATE_API_KEY", description="Environment variable with the engine's API key.")
    adapter_root: str | None = Field(None, description="The engine's path of the versions' folder; default: ours.")
    probe_mean: float = Field(0.05, gt=0, description="Largest mean difference of log-probabilities, nats per token.")
    probe_max: float = Field(0.5, gt=0, description="Largest difference of one token's log-probability, nats.")
    template: str | None = Field(None, description="Chat template by name.")
    precision: str = Field("auto", description="auto, bf16, fp16 or fp32.")
    max_rows: int = Field(16, ge=1, description="Answers that one step of the model computes together.")
    max_in_flight: int = Field(256, ge=1, description="Requests at the same time; further ones get 429.")
    connect_seconds: float = Field(5.0, gt=0, description="Until the engine accepts the connection.")
    first_byte_seconds: float = Field(300.0, gt=0, description="Until the engine's reply begins; whole ones come late.")
    idle_seconds: float = Field(60.0, gt=0, description="Between two pieces of the engine's reply.")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        given = [source is not None for source in (self.model, self.alias, self.upstream)]
        if sum(given) != 1 and given != [False, True, True]:
            raise ValueError("model, alias, upstream: give exactly one of them, or alias and upstream for adapters")
        if self.at_engine and self.upstream_model is not None:
            raise ValueError("upstream_model: goes without alias; adapters have names of their own at the engine")
        return self

    @property
    def at_engine(self) -> bool:
        """Whether the versions of an alias are adapters at an engine."""
        return self.alias is not None and self.upstream is not None


class RouteFields(Fields):
    """A name whose requests are shared between models."""

    models: dict[str, float] = Field(min_length=1, description="Share of each model; they add up to 1.")
    shadow: tuple[str, ...] = Field((), description="Models that answer too; their answers are recorded, not sent.")
    salt: str = Field("", description="Another salt draws other users for each share.")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if any(share < 0 for share in self.models.values()) or not math.isclose(sum(self.models.values()), 1.0):
            raise ValueError(f"models: the shares are not negative and add up to 1, not {sum(self.models.values()):g}")
        return self


class ServeFields(Fields):
    """The keys of `serve.yaml`."""

    models: dict[str, ServedModelFields] = Field(min_length=1, description="Models by the names that clients use.")
    routes: dict[str, RouteFields] = Field({}, description="Names whose requests are shared between models.")
    host: str = Field("127.0.0.1", description="Address to listen on; beyond this machine only with API keys.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    names: tuple[str, ...] = Field((), description="Host names under which a proxy reaches the server.")
    https: bool = Field(False, description="A proxy on this machine serves HTTPS.")
    origins: tuple[str, ...] = Field((), description="Web pages' origins that may call the server (CORS).")
    record: Literal["none", "metadata", "redacted", "full"] = Field(
        "none", description="What is recorded of requests without an API key; a key has its own policy."
    )
    max_body_bytes: int = Field(4 << 20, ge=1024, description="Largest request.")
    max_tokens: int = Field(4096, ge=1, description="Longest answer of a model in this process.")
    max_n: int = Field(8, ge=1, description="Answers to one request.")
    request_seconds: float = Field(600.0, gt=0, description="Longest time of one request.")
    grace_seconds: int = Field(30, ge=0, description="Time for requests in progress when the server stops.")
    poll_seconds: float = Field(2.0, gt=0, description="How often aliases are looked up.")
    shadow_in_flight: int = Field(16, ge=0, description="Shadow requests at the same time; others are left out.")
    smoke_prompts: bool = Field(True, description="Whether a version is asked a few prompts before it is taken over.")
    rollback: RollbackFields | None = Field(
        None, description="Roll production back if a promoted version is worse than the one before; null: never."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name, route in self.routes.items():
            if name in self.models:
                raise ValueError(f"routes: {name} is the name of a model too; choose another one")
            for model in (*route.models, *route.shadow):
                if model not in self.models:
                    raise ValueError(f"routes: {name}: {model} is not one of the models {', '.join(self.models)}")
        if self.rollback is not None and PRODUCTION not in [model.alias for model in self.models.values()]:
            raise ValueError(f"rollback: moves {PRODUCTION} back, and no model has alias: {PRODUCTION}")
        return self

    @property
    def address(self) -> Address:
        """Where the gateway listens."""
        return Address(host=self.host, port=self.port, names=self.names, https=self.https)


def read_settings(path: str | Path, given: Mapping[str, Any]) -> ServeFields:
    """The settings in a YAML file; `given` are options of the command line, which go before it.

    Raises:
        ConfigError: a line for each wrong key, with file and line.
    """
    entries = read_config_file(path)
    if secrets := find_secrets(entries):
        raise ConfigError(*secrets)
    return settings_of(
        {**entries, **{key: ConfigEntry(value, "command line") for key, value in given.items()}}, str(path)
    )


def settings_of(entries: Mapping[str, ConfigEntry], origin: str) -> ServeFields:
    """The settings of these keys; raises ConfigError as `read_settings`."""
    try:
        return ServeFields(**{key: entry.value for key, entry in entries.items() if entry.value is not None})
    except ValidationError as error:
        lines = []
        for details in error.errors(include_url=False):
            path = [str(part) for part in details["loc"]]
            where = entries[path[0]].where if path and path[0] in entries else origin
            message = details["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {'.'.join(path)}{': ' if path else ''}{message}")
        raise ConfigError(*lines) from error
