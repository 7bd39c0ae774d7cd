"""When a run logs, evaluates and saves, where to, and on which devices."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from palate.config.base import Fields
from palate.config.values import Interval, PathText, Trackers, When

# metric of an evaluation → whether a larger value is better
GREATER_IS_BETTER: Mapping[str, bool] = MappingProxyType(
    {
        "loss": False,
        "nll": False,
        "rewards/accuracies": True,
        "rewards/margins": True,
        "rewards/chosen": True,
        "rewards/rejected": False,
        "logps/chosen": True,
        "logps/rejected": False,
        "absolute_error": False,
        "reward": True,
        "kl": False,
    }
)


def greater_is_better(metric: str) -> bool | None:
    """Whether a larger value is better; None where that is not known. `rewards/NAME` is what the reward NAME gave."""
    return GREATER_IS_BETTER.get(metric, True if metric.startswith("rewards/") else None)


def _metric_name(name: str) -> str:
    name = name.removeprefix("eval_")
    return "rewards/accuracies" if name == "accuracy" else name


BestMetric: TypeAlias = Annotated[str, AfterValidator(_metric_name)]


class OutputFields(Fields):
    """Where the run directory goes."""

    output_dir: PathText = Field(min_length=1, description="The run directory: model, metrics, samples, report.")
    overwrite_output_dir: bool = Field(False, description="Replace a run directory that is already there.")
    resume_from_checkpoint: bool | PathText | None = Field(
        None, description="true resumes from the newest complete checkpoint in output_dir, a path from that one."
    )


class LogFields(Fields):
    """What is logged, and where it is sent."""

    logging_steps: Interval = Field(
        10, description="Steps (below 1: share of all steps) between two lines on the terminal and in the trackers."
    )
    report_to: Trackers = Field(
        ["tensorboard"], description="tensorboard, wandb, both or none. metrics.jsonl is always written."
    )
    wandb_project: str | None = Field(None, description="Project name in W&B.")
    run_name: str | None = Field(None, description="Name of the run in the trackers.")


class EvaluationFields(Fields):
    """Evaluation while training, and saving."""

    eval_strategy: When = Field("no", description="Evaluate every eval_steps, at each epoch's end, or only at the end.")
    eval_steps: Interval = Field(
        default_factory=lambda data: data.get("logging_steps", 10),
        description="Steps (below 1: share of all steps) between two evaluations.",
        json_schema_extra={"default": "logging_steps"},
    )
    save_strategy: When = Field(
        "steps", description="Write checkpoints every save_steps, at each epoch's end, or none."
    )
    save_steps: Interval = Field(500, description="Steps (below 1: share of all steps) between two checkpoints.")
    save_total_limit: int | None = Field(None, ge=1, description="Keep only the newest n checkpoints.")
    save_only_model: bool = Field(
        False, description="Leave optimiser and data position out of checkpoints: smaller, but not resumable."
    )
    load_best_model_at_end: bool = Field(False, description="End with the checkpoint that evaluated best.")
    metric_for_best_model: BestMetric | None = Field(
        None,
        description="Metric of an evaluation by which checkpoints and evaluations are compared, with or without eval_, "
        "e.g. rewards/accuracies (also as accuracy) or rewards/margins.",
        json_schema_extra={"default": "loss"},
    )
    greater_is_better: bool | None = Field(
        None,
        description="Whether a larger value of metric_for_best_model is better.",
        json_schema_extra={"default": "known for the metrics of palate"},
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after this many evaluations without a better one."
    )

    @property
    def best_metric(self) -> tuple[str, bool]:
        """The metric by which evaluations are compared, and whether a larger value of it is better."""
        name = self.metric_for_best_model or "loss"
        known = greater_is_better(name)
        return name, bool(known) if self.greater_is_better is None else self.greater_is_better

    @model_validator(mode="after")
    def _best_has_a_direction(self) -> Any:
        name = self.metric_for_best_model
        if name is not None and self.greater_is_better is None and greater_is_better(name) is None:
            raise ValueError(
                f"metric_for_best_model: {name} is not among those whose direction is known "
                f"({', '.join(GREATER_IS_BETTER)}); set greater_is_better: true or false beside it"
            )
        return self

    @model_validator(mode="after")
    def _best_needs_evaluations(self) -> Any:
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
        """Whether every checkpoint falls on an evaluation: both in steps or both as shares of them, and a multiple."""
        save, evaluate = self.save_steps, self.eval_steps
        if (save < 1) != (evaluate < 1):
            return False
        return abs(save / evaluate - round(save / evaluate)) < 1e-9


class DeviceFields(Fields):
    """Workers, processes and sharding."""

    dataloader_num_workers: int = Field(
        0, ge=0, description="Processes that prepare batches ahead, at most one a core."
    )
    ddp_timeout: int = Field(1800, ge=1, description="Seconds a process waits for the others.")
    deepspeed: PathText | dict[str, Any] | None = Field(None, description="DeepSpeed config: a JSON file or a mapping.")
    fsdp: bool | str | list[str] | None = Field(None, description="Fully sharded data parallel, as in transformers.")
    fsdp_config: PathText | dict[str, Any] | None = Field(None, description="FSDP config: a JSON file or a mapping.")

    @model_validator(mode="after")
    def _one_way_to_shard(self) -> Any:
        if self.deepspeed and self.fsdp:
            raise ValueError("deepspeed and fsdp both shard the model; keep one of them")
        return self
