"""README.md of a trained model: base, objective, data and results."""

from __future__ import annotations

import yaml

from palate.training.setup.session import Session

_SHOWN = {
    "loss": "training loss",
    "eval_loss": "held-out loss",
    "eval_rewards/accuracies": "held-out accuracy of the implied reward",
    "eval_rewards/margins": "held-out reward margin",
    "eval_logps/chosen": "held-out log-probability of chosen",
}


def model_card(session: Session, metrics: dict[str, float]) -> str:
    """Markdown with the YAML header that model hubs read."""
    config, data = session.config, session.data
    header = {
        "base_model": config.model_name_or_path,
        "library_name": "peft" if config.finetuning_type == "lora" else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["palate", config.stage, session.method.traits.name],
    }
    reference = session.reference
    merged = config.merged_adapters if config.finetuning_type == "lora" else ()
    rows = [
        ("stage", f"{config.stage}, objective {session.method.traits.name}"),
        ("trained", f"{session.policy.trainable:,} of {session.policy.total:,} parameters ({config.finetuning_type})"),
        ("starting weights", f"`{session.policy.identity}`"),
        *([("adapters merged before this one", ", ".join(merged))] if merged else []),
        ("reference", f"{reference.kind}, weights `{reference.identity}`" if reference else "none"),
        ("training groups", _counted(len(data.train), data.prompts_trained)),
        ("held-out groups", _counted(len(data.evaluation), data.prompts_evaluated)),
        ("precision", session.precision.name),
        ("learning rate", f"{config.learning_rate:g}"),
        *((label, f"{metrics[name]:.4f}") for name, label in _SHOWN.items() if name in metrics),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n"
        f"# {config.model_name_or_path} after {config.stage}\n\n"
        f"Trained with palate. `run.json` in this folder has the whole config, "
        f"the hashes and the timings.\n\n| | |\n|---|---|\n{table}\n"
    )


def _counted(groups: int, prompts: int) -> str:
    return f"{groups:,} of {prompts:,} prompts" if groups else "none"
