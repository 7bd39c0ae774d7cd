"""Models that answer prompts, by name: in this process, or in an engine over the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palate.evaluation.subject import Subject
    from palate.models.generation.endpoints.engine import Engine


def load_answerer(
    model: str, base_url: str | None, *, template: str | None = None, precision: str = "auto"
) -> Engine | Subject:
    """A model that answers prompts: in an engine if one is named, else in this process."""
    if base_url is not None:
        from palate.models.generation.endpoints.engine import Engine

        return Engine(base_url, model)

    from palate.evaluation.subject import Subject, model_spec
    from palate.models.precision import default_device, resolve

    device = default_device()
    return Subject(model_spec(model, template=template), resolve(precision, device), device)
