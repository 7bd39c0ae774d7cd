"""The keys of output, logging, evaluation, checkpoints and devices."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, model_validator

from palate.config.base import Fields, setting
from palate.config.values import Interval, PathText, Trackers, When

# evaluation metric → whether a larger value is better
GREATER_IS_BETTER: Mapping[str, bool] = MappingProxyType(
    {
        **dict.fromkeys(("rewards/accuracies", "rewards/margins", "rewards/chosen", "reward", "logps/chosen"), True),
        **dict.fromkeys(("loss", "nll", "rewards/rejected", "logps/rejected", "absolute_error", "kl"), False),
    }
)


def greater_is_better(metric: str) -> bool | None:
    """Whether a larger value is better; None if unknown. `rewards/NAME` is the value of the reward NAME."""
    return GREATER_IS_BETTER.get(metric, True if metric.startswith("rewards/") else None)


def _metric_name(name: str) -> str:
    name = name.removeprefix("eval_")
    return "rewards/accuracies" if name == "accuracy" else name


BestMetric: TypeAlias = Annotated[str, AfterValidator(_metric_name)]


class OutputFields(Fields):
    """Output: the run directory."""

    output_dir: PathText = setting(..., "The run directory, for model, metrics, samples and report.", min_length=1)
    overwrite_output_dir: bool = setting(False, "Replace an existing run directory.")
    resume_from_checkpoint: bool | PathText | None = setting(
        None, "true resumes from the newest complete checkpoint in output_dir, a path from that checkpoint."
    )
    push_to_hub: bool = setting(False, "Upload the model (with lora, the adapter) to the hub after the run.")
    hub_model_id: str | None = setting(
        None, "The hub repository, owner/name; needed with push_to_hub. HF_TOKEN is its token."
    )
    hub_private_repo: bool = setting(True, "A new repository is private, and nothing is uploaded to a public one.")

    @model_validator(mode="after")
    def _check_hub(self) -> Any:
        if self.push_to_hub and not self.hub_model_id:
            raise ValueError("push_to_hub needs the repository to upload to: set hub_model_id: owner/name")
        return self


class LogFields(Fields):
    """Logging: terminal and trackers."""

    logging_steps: Interval = setting(
        10, "Steps (below 1: share of all steps) between two lines on the terminal and in the trackers."
    )
    report_to: Trackers = setting(
        ["tensorboard"],
        "tensorboard, wandb, mlflow, trackio, several of them or none. metrics.jsonl is always written.",
    )
    wandb_project: str | None = setting(None, "Project name in W&B.")
    project: str | None = setting(
        None, "Project name in Trackio. MLFLOW_EXPERIMENT_NAME names the experiment in MLflow."
    )
    run_name: str | None = setting(None, "Run name in the trackers.")


class EvaluationFields(Fields):
    """Evaluation and checkpoints: during training."""

    eval_strategy: When = setting("no", "Evaluate every eval_steps, after each epoch, or only at the end.")
    eval_steps: Interval = setting(
        lambda data: data.get("logging_steps", 10),
        "Steps (below 1: share of all steps) between two evaluations.",
        shown="logging_steps",
    )
    save_strategy: When = setting("steps", "Write a checkpoint every save_steps, after each epoch, or never.")
    save_steps: Interval = setting(500, "Steps (below 1: share of all steps) between two checkpoints.")
    save_total_limit: int | None = setting(None, "Keep only the newest n checkpoints.", ge=1)
    save_only_model: bool = setting(False, "Save no optimiser state: checkpoints are smaller, but cannot be resumed.")
    load_best_model_at_end: bool = setting(False, "Use the best checkpoint at the end of the run.")
    metric_for_best_model: BestMetric | None = setting(
        None,
        "Evaluation metric that decides which checkpoint is best, with or without eval_: e.g. "
        "rewards/accuracies (or accuracy), rewards/margins.",
        shown="loss",
    )
    greater_is_better: bool | None = setting(
        None, "A larger value of metric_for_best_model is better.", shown="known for palate's metrics"
    )
    early_stopping_patience: int | None = setting(None, "Stop after this many evaluations without improvement.", ge=1)

    @property
    def best_metric(self) -> tuple[str, bool]:
        """The metric that decides which checkpoint is best, and whether a larger value of it is better."""
        name = self.metric_for_best_model or "loss"
        known = greater_is_better(name)
        return name, bool(known) if self.greater_is_better is None else self.greater_is_better

    @model_validator(mode="after")
    def _check_direction(self) -> Any:
        name = self.metric_for_best_model
        if name is not None and self.greater_is_better is None and greater_is_better(name) is None:
            raise ValueError(
                f"metric_for_best_model: {name} is not a metric with a known direction "
                f"({', '.join(GREATER_IS_BETTER)}); also set greater_is_better: true or false"
            )
        return self

    @model_validator(mode="after")
    def _check_evaluations(self) -> Any:
        for name in ("load_best_model_at_end", "early_stopping_patience"):
            if getattr(self, name) and self.eval_strategy == "no":
                raise ValueError(f"{name} compares evaluations, but eval_strategy is no: set eval_strategy: steps")
        if self.load_best_model_at_end and self.save_strategy != self.eval_strategy:
            raise ValueError(
                "load_best_model_at_end needs a checkpoint for each evaluation, but eval_strategy is "
                f"{self.eval_strategy} and save_strategy is {self.save_strategy}: make them equal"
            )
        if self.load_best_model_at_end and self.eval_strategy == "steps" and not self._saves_what_it_evaluates():
            raise ValueError(
                f"load_best_model_at_end needs save_steps ({self.save_steps}) to be a multiple of eval_steps "
                f"({self.eval_steps})"
            )
        return self

    def _saves_what_it_evaluates(self) -> bool:
        """Whether every checkpoint is written at an evaluation: a multiple in steps, or in shares of all steps."""
        save, evaluate = self.save_steps, self.eval_steps
        if (save < 1) != (evaluate < 1):
            return False
        return abs(save / evaluate - round(save / evaluate)) < 1e-9


class DeviceFields(Fields):
    """Devices: data loading, processes and sharding."""

    dataloader_num_workers: int = setting(
        0, "Number of processes that prepare batches; at most one per core is useful.", ge=0
    )
    ddp_timeout: int = setting(1800, "Seconds that a process waits for the others.", ge=1)
    deepspeed: PathText | dict[str, Any] | None = setting(None, "DeepSpeed config: a JSON file or a mapping.")
    fsdp: bool | str | list[str] | None = setting(None, "Fully sharded data parallel, as in transformers.")
    fsdp_config: PathText | dict[str, Any] | None = setting(None, "FSDP config: a JSON file or a mapping.")

    @model_validator(mode="after")
    def _check_sharding(self) -> Any:
        if self.deepspeed and self.fsdp:
            raise ValueError("deepspeed and fsdp both shard the model; keep one of them")
        return self
