"""What run.json says of a run from its start."""

from __future__ import annotations

from typing import Any

from palate.models.reference.kinds import Reference
from palate.training.setup.environment import machine, versions
from palate.training.setup.session import Session


def run_facts(session: Session) -> dict[str, Any]:
    """Config, versions, machine, model, reference and data, as run.json holds them."""
    config, policy, data = session.config, session.policy, session.data
    tree_named = "flex" if config.attention == "flex" else "tree"
    return {
        "schema": 1,
        "stage": config.stage,
        "config": config.resolved(),
        "versions": versions(),
        "machine": machine(session.device),
        "precision": session.precision.name,
        "attention": tree_named if policy.probe.packed else f"padded: {policy.probe.reason}",
        "model": {
            "name": config.model_name_or_path,
            "identity": policy.identity,
            "trainable_parameters": policy.trainable,
            "total_parameters": policy.total,
        },
        "reference": _reference_facts(session.reference),
        "objective": session.method.traits.name,
        "data": {
            "train_groups": len(data.train),
            "train_prompts": data.prompts_trained,
            "eval_groups": len(data.evaluation),
            "eval_prompts": data.prompts_evaluated,
            "identity": data.identity,
            **({"held_out_identity": data.held_out_identity} if data.evaluation else {}),
        },
    }


def _reference_facts(reference: Reference | None) -> dict[str, Any]:
    if reference is None:
        return {"kind": "none", "identity": None}
    return {"kind": reference.kind, "identity": reference.identity, "is_start": reference.is_start}
