"""`palate serve`: the gateway, from options or a file."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from palate.cli.arguments import PrecisionName, StoreUrl, TemplateName, check_installed, opened_store
from palate.cli.console import print_note, print_progress, print_result
from palate.errors import EngineError, UsageError

if TYPE_CHECKING:
    from palate.serving.app import Gateway
    from palate.serving.settings import ServeFields

ConfigPath = Annotated[
    Path | None, Option("--config", metavar="serve.yaml", help="Several models, routes and limits; see docs/serve.md.")
]
ModelName = Annotated[
    str | None, Option("--model", "-m", metavar="MODEL", help="Run, checkpoint, folder, hub id or version to serve.")
]
AliasName = Annotated[
    str | None, Option("--alias", metavar="ALIAS", help="Alias of the registry; new versions are taken over.")
]
UpstreamUrl = Annotated[
    str | None, Option("--upstream", metavar="URL", help="OpenAI-compatible engine to stand before, up to /v1.")
]
UpstreamModel = Annotated[str | None, Option("--upstream-model", help="The engine's model. Default: all that it has.")]
Host = Annotated[str | None, Option("--host", help="Address to listen on; beyond this machine only with API keys.")]
Port = Annotated[int | None, Option("--port", min=0, max=65535, help="Port; 0 takes a free one. Default: 8000.")]
HostNames = Annotated[
    list[str] | None, Option("--name", metavar="HOST", help="Name under which a proxy reaches the server; repeatable.")
]
Record = Annotated[
    Literal["none", "metadata", "redacted", "full"] | None,
    Option("--record", help="What is recorded of requests without an API key. Default: none."),
]
Rollback = Annotated[
    bool, Option("--rollback", help="Roll production back if a promoted version is worse; see docs/serve.md.")
]
_OWN = {"template": None, "precision": "auto", "max_rows": 16}
"""Options of a model in this process, with their defaults."""
MaxRows = Annotated[int, Option("--max-rows", min=1, help="Answers that the model writes together.")]


def command(
    config: ConfigPath = None,
    model: ModelName = None,
    alias: AliasName = None,
    upstream: UpstreamUrl = None,
    upstream_model: UpstreamModel = None,
    host: Host = None,
    port: Port = None,
    names: HostNames = None,
    record: Record = None,
    rollback: Rollback = False,
    store: StoreUrl = None,
    max_rows: MaxRows = 16,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
) -> None:
    """Serve models by the OpenAI API until Ctrl-C: in this process, or an engine's.

    Example: palate serve --model runs/dpo
    """
    check_installed("serve")
    from palate.serving.app import Gateway, check_exposure
    from palate.serving.loading import open_models
    from palate.serving.settings import ServedModelFields

    chosen = {"host": host, "port": port, "names": names, "record": record}
    given: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
    given |= {"rollback": {}} if rollback else {}
    options = {"template": template, "precision": precision, "max_rows": max_rows}
    settings = _settings(config, model, alias, (upstream, upstream_model), options, given)
    logging.getLogger("palate.serving").addHandler(_Notes())
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(opened_store(store, create=True))
        check_exposure(settings.address, opened)
        settings.address.listen().close()  # before a model is loaded or an engine is asked
        if upstream is not None and upstream_model is None:
            asked = {name: {"upstream": upstream, "upstream_model": name} for name in _models_at(upstream)}
            models = {name: ServedModelFields.model_validate(fields) for name, fields in asked.items()}
            settings = settings.model_copy(update={"models": models})
        _serve(Gateway(opened, settings, open_models(settings, opened, print_progress)))


def _serve(gateway: Gateway) -> None:
    from palate.network.server import serve

    settings = gateway.settings

    def on_ready(url: str) -> None:
        names = ", ".join([*settings.routes, *settings.models])
        who = "API keys are needed" if gateway.needs_keys else f"recording: {settings.record}"
        print_result(f"{url}v1 serves {names}; {who}; Ctrl-C stops")
        sys.stdout.flush()

    # The gateway ends its requests itself after the grace; the server waits a little longer.
    serve(gateway.app, settings.address, on_ready, gateway.stop, grace=settings.grace_seconds + 5)


def _settings(
    config: Path | None,
    model: str | None,
    alias: str | None,
    upstream: tuple[str | None, str | None],
    options: dict[str, Any],
    given: dict[str, Any],
) -> ServeFields:
    from palate.config.reader import ConfigEntry
    from palate.serving.settings import read_settings, settings_of

    url, name = upstream
    sources = [source for source in (config, model, alias, url) if source is not None]
    if len(sources) != 1:
        raise UsageError("give one of --model, --alias, --upstream and --config")
    if name is not None and url is None:
        raise UsageError("--upstream-model goes with --upstream")
    changed = [key for key, value in options.items() if value != _OWN[key]]
    if changed and model is None and alias is None:
        option = changed[0].replace("_", "-")
        remedy = "write it under the model in the file" if config else "set it where the engine is started"
        raise UsageError(f"--{option} is of a model in this process; {remedy}")
    if config is not None:
        read = read_settings(config, {key: value for key, value in given.items() if key != "rollback"})
        return read if "rollback" not in given or read.rollback is not None else read_settings(config, given)
    if url is not None:
        models = {name or url: {"upstream": url, "upstream_model": name}}  # without a name the engine is asked later
    elif alias is not None:
        models = {alias: {"alias": alias, **options}}
    else:
        assert model is not None
        folder = Path(model)
        name = (folder.resolve() if folder.is_dir() else folder).name  # of `.`, too
        models = {name: {"model": model, **options}}
    entries = {key: ConfigEntry(value, "command line") for key, value in {**given, "models": models}.items()}
    return settings_of(entries, "command line")


def _models_at(url: str) -> list[str]:
    """The models that an engine has."""
    import os

    import httpx2

    key = os.environ.get("PALATE_API_KEY", "").strip()
    try:
        reply = httpx2.get(
            f"{url.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=10
        )
        reply.raise_for_status()
        found = [str(entry["id"]) for entry in reply.json()["data"]]
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:
        why = f"does not list its models ({type(error).__name__}); name one with --upstream-model"
        raise EngineError(f"{url}: the engine {why}") from error
    if not found:
        raise EngineError(f"{url}: the engine has no models")
    return found


class _Notes(logging.Handler):
    """The gateway's log as lines of the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(record.getMessage())
