"""A checkpoint's weights into the model that trains, whatever names they were stored under.

transformers stores some weights under other names and shapes than its models have (the experts of most mixtures: a
tensor for each in the file, one for all in memory). Its Trainer loads a checkpoint by name and passes over what it does
not find, so a resumed run would go on with the experts that it began with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from palate.errors import ArtifactError
from palate.models.save import quiet
from palate.models.value_head import value_head_aside


def stored_otherwise(model: Any, folder: Path) -> bool:
    """Whether the folder holds a whole model of which some tensors have other names than in memory."""
    stored: set[str] = set()
    for path in folder.glob("model*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored.update(file.keys())
    if not stored:  # an adapter, or shards of another kind
        return False
    return bool(_own_names(model) - stored)


def load_renamed(model: Any, folder: Path) -> None:
    """Copy the folder's weights into the model by way of a second one, loaded as transformers loads any model.

    Raises:
        ArtifactError: the folder lacks some of the model's weights.
    """
    with quiet():
        read, report = type(model).from_pretrained(folder, dtype="auto", output_loading_info=True)
    lacking = sorted(set(report["missing_keys"]) & _own_names(model))
    if lacking:
        raise ArtifactError(f"{folder}: the checkpoint lacks weights of the model: {', '.join(lacking[:3])}")
    with value_head_aside(model):
        model.load_state_dict(read.state_dict())


def _own_names(model: Any) -> set[str]:
    """Of the tensors that a whole model's files hold."""
    with value_head_aside(model):
        return set(model.state_dict()) - set(getattr(model, "all_tied_weights_keys", None) or ())
