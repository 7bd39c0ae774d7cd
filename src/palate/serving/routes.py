"""Which model answers a request: by name, or by a share that stays the same for a user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate.serving.models import Models, Served, hash_position
from palate.serving.problems import ApiError, invalid
from palate.serving.settings import RouteFields


@dataclass(frozen=True, slots=True)
class Choice:
    """The model of a request.

    Attributes:
        served: answers.
        route: name of the route; "" for a model that the client named.
        probability: with which a user is given this model on the route.
        shadows: models that answer too.
        person: divides the model between its alias's version and a canary; None for a version that the client named.
    """

    served: Served
    route: str = ""
    probability: float = 1.0
    shadows: tuple[Served, ...] = ()
    person: str | None = None


class Router:
    """Routes by name, and models by theirs."""

    def __init__(self, models: Models, routes: Mapping[str, RouteFields]) -> None:
        self._models = models
        self._routes = dict(routes)

    def names(self) -> list[str]:
        """What clients can ask for."""
        return [*self._routes, *self._models.served]

    def choose(self, name: str | None, person: str) -> Choice:
        """The model for a request.

        Args:
            name: in the request; None means the only one there is.
            person: a stable name of the user, which is hashed.

        Raises:
            ApiError: 404 for an unknown name.
        """
        if name is None:
            names = self.names()
            if len(names) > 1:
                raise invalid(f"model: name one of {', '.join(names)}", "model")
            name = names[0]
        route = self._routes.get(name)
        if route is None:
            served = self._models.find(name)
            if served is None:
                known = ", ".join(self.names())
                message = f"the model {name[:100]!r} does not exist; there are {known}"
                raise ApiError(404, message, param="model", code="model_not_found")
            by_version = name not in (served.name, served.alias)
            return Choice(served, person=None if by_version else person)
        model = share_of(route, person)
        shadows = tuple(self._models.served[shadow] for shadow in route.shadow)
        return Choice(self._models.served[model], name, route.models[model], shadows, person)


def share_of(route: RouteFields, person: str) -> str:
    """The model that a user is given: the same at every request, until the shares change.

    The user's position in [0, 1) is a hash; the shares follow each other in their order. So if the last share grows at
    the cost of the one before, only users between the two boundaries change.
    """
    position = hash_position(route.salt, person)
    end = 0.0
    chosen = ""
    for model, share in route.models.items():
        if share <= 0:
            continue
        chosen, end = model, end + share
        if position < end:
            break
    return chosen
