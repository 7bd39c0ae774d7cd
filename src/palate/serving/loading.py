"""From settings to loaded models. torch is imported only if a model runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.config.reader import ConfigEntry
from palate.errors import EngineRefused, UsageError
from palate.registry import Version as RegistryVersion
from palate.registry import canary_of, resolve, versions
from palate.registry.aliases import last_promotion, refuse, rollback
from palate.registry.canary import AUTOMATON, set_canary
from palate.registry.versions import PRODUCTION, find_row
from palate.serving.backends.base import Backend
from palate.serving.models import LoadedVersion, Models, Named, Served
from palate.serving.settings import ServedModelFields, ServeFields, settings_of
from palate.store import Store

if TYPE_CHECKING:
    from palate.serving.app import Gateway


def open_models(settings: ServeFields, store: Store, on_progress: Callable[[str], None]) -> Models:
    """All models of the settings, loaded.

    Args:
        store: has the registry.
        on_progress: gets a line for each model that is loaded.

    Raises:
        PalateError: one cannot be loaded.
    """
    registry = StoreRegistry(store, settings)
    served = {}
    for name, fields in settings.models.items():
        folder: Path | None = None
        backend: Backend
        if fields.upstream is not None and fields.alias is None:
            from palate.serving.backends.upstream import Upstream

            backend = Upstream(name, fields)
        elif fields.alias is not None:
            on_progress(f"loading {fields.alias}")
            backend, folder = registry.load(name, fields.alias)
        else:
            on_progress(f"loading {fields.model}")
            backend = registry.load_model(fields)
        served[name] = Served(name, LoadedVersion(backend), fields.alias, folder)
    return Models(served, registry, smoke_prompts=settings.smoke_prompts)


def gateway(
    models: Mapping[str, Mapping[str, Any]],
    store: Store,
    *,
    on_progress: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Gateway:
    """What `palate serve` runs: `app` is an ASGI app with the OpenAI API, `await stop()` ends its requests gently.

    `uvicorn.run(gateway({"dpo": {"model": "runs/dpo"}}, open_store()).app, port=8000)`

    Args:
        models: name in requests → the keys of a model in `serve.yaml`.
        store: has API keys, interactions and the registry; it stays open.
        on_progress: gets a line for each model that is loaded.
        settings: other keys of `serve.yaml`.

    Raises:
        PalateError: a key is wrong, or a model cannot be loaded.
    """
    from palate.serving.app import Gateway  # with the packages of palate[serve]

    values = {"models": {name: dict(fields) for name, fields in models.items()}, **settings}
    given = settings_of({key: ConfigEntry(value, "gateway") for key, value in values.items()}, "gateway")
    return Gateway(store, given, open_models(given, store, on_progress))


class StoreRegistry:
    """The registry in the store; see `models.Registry`."""

    def __init__(self, store: Store, settings: ServeFields) -> None:
        self._store = store
        self._settings = settings

    def named(self, alias: str) -> Named:
        """See Registry."""
        return self._store.read(lambda session: Named(Path(find_row(session, alias).folder), canary_of(session, alias)))

    def load(self, name: str, version: str) -> tuple[Backend, Path]:
        """See Registry."""
        found, fields = resolve(self._store, version), self._settings.models[name]
        backend = self._load_at_engine(found, fields) if fields.at_engine else self._load_version(found, fields)
        return backend, found.folder

    def refuse(self, alias: str, version: str, kept: str, reason: str) -> None:
        """See Registry. A canary is ended, and production rolled back if the settings allow it."""
        canary = self._store.read(lambda session: canary_of(session, alias))
        last = self._store.read(last_promotion)
        if canary is not None and canary.version == version:
            set_canary(self._store, version, 0.0, alias=alias, who=AUTOMATON, reason=reason)
        elif (
            self._settings.rollback is not None
            and alias == PRODUCTION
            and last is not None
            and (last.version, last.before) == (version, kept)
        ):
            rollback(self._store, reason=reason, who=AUTOMATON, expect=last)
        else:
            refuse(self._store, alias, version, kept, reason)

    def load_model(self, fields: ServedModelFields) -> Backend:
        """A model by the name of a run, folder, hub id or version."""
        from palate.serving.backends.local import load_local

        assert fields.model is not None
        if not Path(fields.model).exists():
            version = None
            with suppress(UsageError):  # no version or alias
                version = resolve(self._store, fields.model)
            if version is not None:
                return self._load_version(version, fields)
        return load_local(fields.model, fields, max_tokens=self._settings.max_tokens)

    def _load_version(self, version: RegistryVersion, fields: ServedModelFields) -> Backend:
        from palate.serving.backends.local import load_local

        return load_local(version.folder, fields, max_tokens=self._settings.max_tokens, version=version.name)

    def _load_at_engine(self, version: RegistryVersion, fields: ServedModelFields) -> Backend:
        """A version as an adapter at an engine, which was compared with it."""
        from palate.serving.backends.adapter import EngineAdapter

        if version.kind != "adapter":
            raise EngineRefused(
                f"{version.name} is a whole model; an engine loads adapters only, serve it without alias"
            )
        probes = version.lineage.get("probes")
        if not probes:
            raise EngineRefused(
                f"{version.name} has no log-probabilities to compare with those of the engine; "
                f"palate model probe {version.name} makes them"
            )
        ids = [probe["ids"] for probe in probes]
        others = {f"{version.name} without its adapter": _joined(probes, "base")}
        for other in versions(self._store):
            known = other.lineage.get("probes", [])
            if other.name != version.name and [probe["ids"] for probe in known] == ids:
                others[other.name] = _joined(known, "logps")
        adapter = EngineAdapter(fields, version, others)
        adapter.load()
        return adapter


def _joined(probes: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [value for probe in probes for value in probe[key]]
