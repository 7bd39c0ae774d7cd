"""The role that each route of an app asks for: declared by a dependency, never decided by the path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

R = TypeVar("R", bound=str)


class NeedsRole:
    """A dependency that asks for a role; a subclass checks who calls.

    Attributes:
        role: its name.
    """

    role: Any


def route_roles(app: FastAPI, order: Sequence[R]) -> dict[tuple[str, str], R]:
    """The role that each route asks for, by method and path; of several, the one with the most rights.

    Args:
        order: the roles, from few rights to many.

    Raises:
        TypeError: a route declares none, or is not one of FastAPI's, which cannot.
    """
    found: dict[tuple[str, str], R] = {}
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        roles = _declared(dependant) if dependant is not None else []
        if not roles:
            raise TypeError(f"the route {route.path} declares no role; see palate.network.roles")
        for method in route.methods or ():
            found[method, route.path or ""] = max(roles, key=order.index)
    return found


def _declared(dependant: Dependant) -> list[Any]:
    """The roles that a route's dependencies ask for."""
    own: list[Any] = [dependant.call.role] if isinstance(dependant.call, NeedsRole) else []
    return [*own, *(role for part in dependant.dependencies for role in _declared(part))]
