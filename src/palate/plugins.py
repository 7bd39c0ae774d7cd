"""Plug-ins: what other packages add to palate by entry points (docs/plugins.md)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeAlias

from palate.errors import ConfigError

Group: TypeAlias = Literal["objectives", "losses", "rewards", "judges", "formats", "benchmarks"]

GROUPS: tuple[Group, ...] = ("objectives", "losses", "rewards", "judges", "formats", "benchmarks")


@cache
def plugin_points(group: Group) -> dict[str, EntryPoint]:
    """The entry points `palate.GROUP` of installed packages by name.

    Raises:
        ConfigError: two packages add the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"palate.{group}"):
        if point.name in found and found[point.name].value != point.value:
            packages = " and ".join(str(one.dist.name) for one in (found[point.name], point) if one.dist)
            raise ConfigError(f"{packages} both add {group} {point.name}; uninstall one of them")
        found[point.name] = point
    return found


@cache
def load_plugin(group: Group, name: str) -> Any:
    """The object that a package adds under this name; None if no package does.

    Raises:
        ConfigError: its module cannot be imported.
    """
    point = plugin_points(group).get(name)
    if point is None:
        return None
    try:
        return point.load()
    except Exception as error:  # importing another package may raise anything
        package = point.dist.name if point.dist else point.value
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{group} {name} of {package} cannot be loaded: {reason}; uninstall or fix it") from error


def all_plugins(group: Group) -> dict[str, Any]:
    """Every object of a group by name; raises ConfigError as `load_plugin`."""
    return {name: load_plugin(group, name) for name in plugin_points(group)}
