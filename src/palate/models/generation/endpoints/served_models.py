"""The lists of models of several endpoints (`/v1/models`), which must serve the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from palate.errors import EngineRefused

if TYPE_CHECKING:
    from openai import OpenAI

_IDENTIFYING = ("root", "parent", "meta", "identity")
"""Fields that say what a model is; `created` is the time of the request at some engines."""


def read_models(client: OpenAI, _url: str = "") -> list[dict[str, Any]]:
    """The list of models of an endpoint, for `Connection.request`; [] if the reply is none."""
    listed = client.get("/models", cast_to=object)
    models = listed.get("data") if isinstance(listed, dict) else None
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []


def identifying_facts(model: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry of a list of models says about the model and would say again after a restart."""
    return {name: model[name] for name in _IDENTIFYING if model.get(name) not in (None, "", {}, [])}


def check_served(model: str, listed: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Compare the lists of endpoints.

    Args:
        model: the name that all must serve.
        listed: base URL → list of models; an empty list says nothing.

    Raises:
        EngineRefused: an endpoint lists other models only, or two say different things of the model.
    """
    found = {url: [entry for entry in models if entry.get("id") == model] for url, models in listed.items()}
    right = next((url for url, entries in found.items() if entries), None)
    wrong = next((url for url, entries in found.items() if listed[url] and not entries), None)
    if wrong is not None:
        names = ", ".join(str(entry.get("id")) for entry in listed[wrong][:5])
        remedy = f", which {right} serves; name endpoints of one model" if right else "; name one of them"
        raise EngineRefused(f"{wrong}: serves {names}, not {model}{remedy}", 404)
    facts = {url: identifying_facts(entries[0]) for url, entries in found.items() if entries}
    first = next(iter(facts), "")
    for url, name in product(facts, _IDENTIFYING):
        ours, theirs = (str(facts[one].get(name, "not given"))[:80] for one in (first, url))
        if ours != theirs:
            problem = f"{first} serves {model} with {name} {ours}, and {url} with {name} {theirs}"
            raise EngineRefused(f"{problem}; name endpoints of one model", 404)
