"""From settings to loaded models. torch is imported only if a model runs in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from palate.errors import UsageError
from palate.serving.backends.base import Backend
from palate.serving.models import Models, Served, Version
from palate.serving.settings import ModelFields, ServeFields
from palate.store import Store

if TYPE_CHECKING:
    from palate.registry import Version as RegistryVersion


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
        if fields.upstream is not None:
            from palate.serving.backends.upstream import Upstream

            backend = Upstream(name, fields)
        elif fields.alias is not None:
            on_progress(f"loading {fields.alias}")
            backend, folder = registry.load(name, fields.alias)
        else:
            on_progress(f"loading {fields.model}")
            backend = registry.load_model(fields)
        served[name] = Served(name, Version(backend), fields.alias, folder)
    return Models(served, registry)


class StoreRegistry:
    """The registry in the store; see `models.Registry`."""

    def __init__(self, store: Store, settings: ServeFields) -> None:
        self._store = store
        self._settings = settings

    def folder(self, alias: str) -> Path:
        """See Registry."""
        from palate.registry import find

        return find(self._store, alias).folder

    def load(self, name: str, alias: str) -> tuple[Backend, Path]:
        """See Registry."""
        from palate.registry import resolve

        version = resolve(self._store, alias)
        return self._load_version(version, self._settings.models[name]), version.folder

    def load_model(self, fields: ModelFields) -> Backend:
        """A model by the name of a run, folder, hub id or version."""
        from palate.registry import resolve
        from palate.serving.backends.local import load_local

        assert fields.model is not None
        if not Path(fields.model).exists():
            version = None
            with suppress(UsageError):  # no version or alias
                version = resolve(self._store, fields.model)
            if version is not None:
                return self._load_version(version, fields)
        return load_local(fields.model, fields, max_tokens=self._settings.max_tokens)

    def _load_version(self, version: RegistryVersion, fields: ModelFields) -> Backend:
        from palate.serving.backends.local import load_local

        return load_local(version.folder, fields, max_tokens=self._settings.max_tokens, version=version.name)
