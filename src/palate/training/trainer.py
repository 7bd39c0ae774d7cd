"""The trainer that all methods share; it contains no method-specific code.

transformers' Trainer does the loop, optimisers, schedules, clipping, accumulation, accelerate and trackers. Changed
here: a step's groups are split into packed micro-batches by token budget, the loss is Σ w·loss / Σ w over the whole
step and all ranks, metrics are means over examples, and a checkpoint is valid only once it is sealed. The overridden
private methods are listed in docs/decisions/0005-trainer-overrides.md.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader
from transformers import TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from palate.errors import NonFiniteError, TrainingError
from palate.progress import Pass, progress
from palate.text.batch import Batch
from palate.text.group_file import GroupSubset
from palate.text.groups import EncodedGroup
from palate.training.checkpoints.write import CheckpointTrainer
from palate.training.coupled import CoupledBatch, CoupledLoss, random_state, same_random_state, set_random_state
from palate.training.deepspeed import accumulate, update
from palate.training.evaluation_pass import evaluate_groups, metric_names
from palate.training.meters import HeldOutRow, Meter, standard_errors
from palate.training.methods.base import LossOutput, summarise
from palate.training.online.rollouts import StepRollouts
from palate.training.processes import gather, sum_over_ranks
from palate.training.scoring import Scoring
from palate.training.sharded import EqualCounts, keep_divided
from palate.training.steps import Groups, StepOrder, order_of

# Seconds after which a step or an evaluation shows a progress bar.
_SLOW_STEP = 5.0


class EvaluationCheck(Protocol):
    """Interface of the health checks that the trainer calls at each evaluation; `training.health` implements it.

    Attributes:
        must_stop: True if the last evaluation ends the run; its checkpoint is then not chosen as the best.
    """

    must_stop: bool

    def measure(self, rows: Sequence[HeldOutRow]) -> dict[str, float]:
        """Further metrics of an evaluation, computed from its rows on all ranks."""
        ...


class PalateTrainer(CheckpointTrainer):
    """Trains any `Method` on encoded groups.

    Args:
        model: a causal LM with the scoring forward (`models.scoring.forward.install`), with or without PEFT.
        train_groups: training data.
        eval_groups: evaluation data, or None.
        split: divides groups into batches within the token budget.
        scoring: computes the losses of a batch; has the method and the reference.
        rollouts: for online methods: samples answers to the prompts of each step, and scores them with the reference.
        between_batches: called before each batch of a step; may raise `BatchStop`.
        args: transformers' arguments, with `logging_nan_inf_filter` off.

    Attributes:
        health: adds metrics to evaluations and may end the run after one; None without health checks.
        step_groups: the groups of this rank's last step.
        step_metrics: metrics of the last step, over all ranks.
        evaluated: numbers of rows and prompts in the latest evaluation, and the standard errors of its means.
    """

    def __init__(
        self,
        *,
        model: torch.nn.Module,
        train_groups: Sequence[EncodedGroup],
        eval_groups: Sequence[EncodedGroup] | None,
        split: Callable[[Sequence[EncodedGroup]], list[Batch]],
        collate: Callable[[Sequence[EncodedGroup]], Batch],
        scoring: Scoring,
        rollouts: StepRollouts | None = None,
        between_batches: Callable[[], None] = lambda: None,
        args: TrainingArguments,
        **kwargs: Any,
    ) -> None:
        self.method = scoring.method
        self.split = split
        self._scoring = scoring
        self.health: EvaluationCheck | None = None
        self.step_metrics: dict[str, float] = {}
        self.evaluated: dict[str, float] = {}
        self.rollouts = rollouts
        self._between_batches = between_batches
        self._before_step: tuple[list[bytes], Mapping[str, float]] | None = None
        self._step_pass: Pass | None = None
        self.step_groups: list[EncodedGroup] = []
        self._step_losses: list[torch.Tensor] = []
        self._step_lists: list[list[EncodedGroup]] = []
        self._step_scored: deque[CoupledBatch] = deque()
        self._step_scope = contextlib.ExitStack()
        self._grad_norm = self._step_learning_rate = float("nan")
        super().__init__(
            model=model,
            args=args,
            data_collator=list,
            train_dataset=Groups(train_groups),
            eval_dataset=Groups(eval_groups) if eval_groups else None,
            **kwargs,
        )
        # `training_step` divides by Σ w of the step. Older transformers also make accelerate divide by this number.
        self.accelerator.gradient_accumulation_steps = 1
        if isinstance(model, FSDPModule):
            keep_divided(self.accelerator)
        self._sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        self._step_split = EqualCounts(split, collate, self.args.device) if self._sharded else split
        self._coupled = CoupledLoss(
            self.method, scoring.forward, scoring.reference, self._step_split, self.args.device, trims=not self._sharded
        )
        self._step_meter = Meter(self.args.device)
        self._log_meter = Meter(self.args.device)

    # ---- which groups form a step

    def _get_train_sampler(self, train_dataset: Any = None) -> StepOrder:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        if self.rollouts is not None and self.rollouts.method.updates > 1:
            return StepOrder(len(dataset), self._rows_of_step(), seed, repeats=self.rollouts.method.updates)
        return self._order(len(dataset), self.args.train_batch_size, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> StepOrder:
        return self._order(len(eval_dataset), self.args.eval_batch_size, None)

    def _rows_of_step(self) -> int:
        return int(self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    def _order(self, rows: int, batch: int, seed: int | None) -> StepOrder:
        # With one process the last batch may be shorter, so nothing is repeated.
        multiple = batch * self.args.world_size if self.args.world_size > 1 else 1
        return StepOrder(rows, multiple, seed)

    def groups_of_run(self) -> Sequence[EncodedGroup]:
        """The training groups that the run will use: all, or those of the first `max_steps` steps."""
        groups: Sequence[EncodedGroup] = self.train_dataset.groups
        wanted = self.args.max_steps * self._rows_of_step() if self.args.max_steps > 0 else len(groups)
        if wanted >= len(groups):
            return groups
        return GroupSubset(groups, list(islice(self._get_train_sampler(), wanted)))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # A resumed Trainer would make one more step after the last one, or after the evaluation that ended the run.
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            return
        sampler = order_of(kwargs["train_dataloader"])
        sampler.set_epoch(kwargs["epoch"])
        with self._step_scope:  # closes the progress bar if a step raises
            super()._run_epoch(*args, **kwargs)

    # ---- one step

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The step's lists of groups, with sampled answers for online methods, and their Σ w over all ranks."""
        self._before_step = random_state(device), self.method.state
        if self.rollouts is None:
            found: tuple[list[Any], Any] = super().get_batch_samples(epoch_iterator, num_batches, device)
            return found
        lists = self.rollouts.fill(list(islice(epoch_iterator, num_batches)), self.state.global_step)
        return lists, self._get_num_items_in_batch(lists, device)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """Σ w over the step's groups on all ranks, scalar; the step's loss is divided by it."""
        self._begin_step(batch_samples)
        total = sum(self.method.traits.weight(group) for groups in batch_samples for group in groups)
        return sum_over_ranks(torch.tensor(total, dtype=torch.float64, device=device))

    def _begin_step(self, lists: list[list[EncodedGroup]]) -> None:
        self.step_groups, self._step_losses, self._step_lists = [], [], lists
        self._step_scored.clear()
        self._step_scope.close()
        groups = sum(map(len, lists))
        self._step_pass = self._step_scope.enter_context(
            progress(f"step {self.state.global_step + 1}, examples", groups, delay=_SLOW_STEP)
        )

    def abandon_step(self) -> None:
        """Undo a step that was interrupted between two batches; no weight has changed yet."""
        self._step_scope.close()
        self._step_meter.reset()
        self.model.zero_grad(set_to_none=True)
        if self._before_step is not None:
            random, self.method.state = self._before_step
            set_random_state(random, self.args.device)

    def training_step(
        self, model: torch.nn.Module, inputs: list[EncodedGroup], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward, one micro-batch at a time. Returns this batch's share of the step's loss, scalar."""
        model.train()
        assert isinstance(num_items_in_batch, torch.Tensor)
        # DDP averages gradients over ranks; the mean over the global step is a sum over them.
        scale = (self.args.world_size / num_items_in_batch).float()
        if self.method.traits.couples_batch:
            return self._coupled_step(model, scale)
        batches = [batch.to(self.args.device) for batch in self._step_split(inputs)]
        references = self._scoring.references(batches)
        total = torch.zeros((), device=self.args.device)
        for number, (batch, reference) in enumerate(zip(batches, references)):
            self._between_batches()
            with self._sync_at(model, last=number == len(batches) - 1):
                found = self._scoring.loss(model, batch, reference)
                loss = ((found.output.loss * found.weights).sum() + found.balancing) * scale
                self._record(batch.groups, found.output, found.weights)
                self._backward(loss, last=number == len(batches) - 1)
            total += loss.detach()
        return total

    def _coupled_step(self, model: torch.nn.Module, scale: torch.Tensor) -> torch.Tensor:
        """`training_step` for a loss of the whole step: the first call scores all batches without gradient."""
        if not self._step_scored:
            self._step_scored.extend(self._coupled.step(model, self._step_lists))
        step = self._step_scored.popleft()
        for number, backward in enumerate(step.passes):
            self._between_batches()
            batch = backward.batch
            with self._sync_at(model, last=number == len(step.passes) - 1):
                scored = self._scoring.forward(model, batch)
                weights = self.method.traits.weights(batch)
                balancing, metrics = self._scoring.balancing(scored, batch, weights)
                self._step_meter.add(metrics, weights)
                # `gradient` is already divided by Σ w, so only DDP's averaging is undone.
                loss = (scored.logps * backward.gradient).sum() * self.args.world_size + balancing * scale
                self._backward(loss, last=number == len(step.passes) - 1)
        self._record(step.groups, step.output, step.weights)
        return (step.output.loss * step.weights).sum() * scale

    def _sync_at(self, model: torch.nn.Module, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """A context for one backward pass; ranks exchange gradients only in the `last` pass of a batch."""
        return contextlib.nullcontext() if last or self.is_deepspeed_enabled else self.accelerator.no_sync(model)

    def _backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """Backward of one pass; `last` of its batch. accelerate would let DeepSpeed update the weights after each."""
        if self.is_deepspeed_enabled:
            accumulate(self.deepspeed, loss, last=last and self.accelerator.sync_gradients)
        else:
            self.accelerator.backward(loss)

    def _record(self, groups: Sequence[EncodedGroup], output: LossOutput, weights: torch.Tensor) -> None:
        losses = output.loss.detach()
        self.step_groups.extend(groups)
        if self._step_pass is not None:
            self._step_pass.reach(len(self.step_groups))
        self._step_losses.append(losses)
        self._step_meter.add({"loss": losses, **output.metrics}, weights, output.weights)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """Raise if a loss or the norm is not finite: the last call before the optimiser changes the weights."""
        self._step_scope.close()
        if self.is_deepspeed_enabled:
            self._check_finite(None)  # DeepSpeed tells the norm only after the update
            grad_norm = update(self.deepspeed)
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        value = norm.item() if isinstance(norm, torch.Tensor) else float(norm)
        self._check_finite(value)
        self._grad_norm = value
        # The rate of this update: the schedule advances before the step is reported.
        self._step_learning_rate = float(self._get_learning_rate())
        return norm

    def _check_finite(self, norm: float | None) -> None:
        """Raise NonFiniteError, with the rows and what to try, if a loss of this rank or the norm is not finite.

        Args:
            norm: of the gradient; None while it is not known.
        """
        finite = torch.isfinite(torch.cat(self._step_losses)).tolist()
        scaled = self.accelerator.scaler is not None  # fp16: the scaler itself skips steps with infinite gradients
        if all(finite) and (scaled or norm is None or math.isfinite(norm)):
            return
        touched = self.is_deepspeed_enabled and norm is not None
        kept = "the last checkpoint is from before this step"
        kept = kept if touched else f"the weights were not touched and {kept}"
        beta = "pref_beta: 0.2, " if self._scoring.reference is not None else ""
        remedy = f"try learning_rate: 1e-7, {beta}max_grad_norm: 0.5, or precision: fp32"
        rows = [group.id for group, ok in zip(self.step_groups, finite) if not ok]
        seen = ", ".join(group.id for group in self.step_groups[:5])
        problem = f"loss is not finite for {', '.join(rows[:5])}" if rows else f"gradient norm is {norm} (rows {seen})"
        raise NonFiniteError(f"step {self.state.global_step + 1}: the {problem}; {kept}; {remedy}")

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: transformers' formula needs padded tensors and counts every parameter."""
        del inputs
        return 0

    # ---- metrics

    def finish_step(self) -> dict[str, float]:
        """The metrics of the step that just ended, over all ranks; called once, by `callbacks.MetricsLog`."""
        self._before_step = None
        metrics = self._means(self._step_meter)
        metrics |= {"grad_norm": self._grad_norm, "learning_rate": self._step_learning_rate}
        self._log_meter.merge(self._step_meter)
        self._step_meter.reset()
        self.step_metrics = metrics
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a line; a training line gets the means over all examples since the previous one."""
        if "loss" in logs:
            logs |= self._means(self._log_meter)
            self._log_meter.reset()
        super().log(logs, start_time)

    def _means(self, meter: Meter) -> dict[str, float]:
        return summarise(meter.means())

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate; metrics are means over examples, not over batches. Repeated rows have weight 0."""
        del description, prediction_loss_only, ignore_keys
        prepared = bool(self.accelerator._models)
        model = self.model_wrapped if prepared else self.accelerator.prepare_model(self.model, evaluation_mode=True)
        model.eval()
        rows = len(dataloader.dataset)  # type: ignore[arg-type]
        with progress("evaluation", rows, delay=_SLOW_STEP) as scored:
            meter, own = evaluate_groups(
                model,
                self._held_out_steps(dataloader, scored),
                self._scoring,
                self._coupled,
                after_step=lambda: self.callback_handler.on_prediction_step(self.args, self.state, self.control),
            )
        held_out = [row for rows_of_rank in gather(own) for row in rows_of_rank]
        self.evaluated = standard_errors(held_out)
        means = self._means(meter)
        if self.health is not None:
            means |= self.health.measure(held_out)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=rows)

    def _held_out_steps(self, dataloader: DataLoader[Any], scored: Pass) -> Iterator[Sequence[EncodedGroup]]:
        """The groups of each evaluation batch, with sampled answers for online methods."""
        for groups in dataloader:
            answered = groups if self.rollouts is None else self.rollouts.held_out(groups)
            scored.advance(len(answered) * self.args.world_size)
            yield answered

    def evaluation_metrics(self) -> list[str]:
        """The names of an evaluation's metrics, found by scoring one held-out group."""
        groups = self.eval_dataset.groups[:1]
        with same_random_state(self.args.device):  # online methods sample an answer
            answered = groups if self.rollouts is None else self.rollouts.held_out(groups)
        return metric_names(self.model, self._scoring, self.split(answered)[0].to(self.args.device))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """True if this evaluation is the best so far among those with a checkpoint.

        An evaluation at which a health check ends the run is not the best, unless it is the only one.
        """
        best = self.args.metric_for_best_model
        if f"eval_{best}" not in metrics:
            known = ", ".join(sorted(name.removeprefix("eval_") for name in metrics))
            raise TrainingError(f"metric_for_best_model: no held-out row has a value of {best}; choose from {known}")
        if self.args.save_strategy != "no" and not self.control.should_save:
            return False
        if self.health is not None and self.health.must_stop and self.state.best_metric is not None:
            return False
        return bool(super()._determine_best_metric(metrics, trial))
