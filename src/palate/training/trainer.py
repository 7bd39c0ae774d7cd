"""The one Trainer subclass: groups in, an exact weighted mean over the global step, and nothing about any method.

What transformers' Trainer keeps: the loop, optimisers, schedules, clipping, accumulation, accelerate, trackers. What
is different: a step's groups are split into packed micro-batches by token budget, the loss is Σ w·loss / Σ w over the
whole step and all ranks, metrics are means over examples, and a checkpoint counts only once it is sealed.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

from palate.artifacts import SEAL, read_json, seal_folder, write_errors, write_json
from palate.errors import NonFiniteError, TrainingError
from palate.models.casts import reuse_casts
from palate.models.experts import RouterBalance
from palate.models.logprobs import Logps, per_completion
from palate.models.neftune import EmbeddingNoise
from palate.models.reference import Reference, evaluating, score
from palate.models.restore import load_renamed, stored_otherwise
from palate.models.save import save_pretrained
from palate.models.trunk import TrunkCache
from palate.progress import Pass, progress
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup
from palate.training.coupled import CoupledBatch, CoupledLoss, random_state, same_random_state, set_random_state
from palate.training.examination import Examination
from palate.training.meters import HeldOutErrors, Meter, Row
from palate.training.methods.base import LossOutput, Method
from palate.training.resume import follow_schedule
from palate.training.rollouts import Rollouts, Sampler
from palate.training.steps import Groups, StepOrder, micro_batches, order_of

# What a method carries from step to step, in a checkpoint.
METHOD_STATE = "method_state.json"

# Seconds after which the progress of a step or an evaluation gets a bar of its own.
_SLOW_STEP = 5.0


class PalateTrainer(Trainer):  # type: ignore[misc]
    """Trains any `Method` on encoded groups.

    Args:
        model: a causal LM with the scoring forward (`models.logprobs.install`), maybe under PEFT.
        method: the loss.
        reference: None where the method needs none.
        train_groups: what is trained on.
        eval_groups: what is evaluated on, or None.
        collate: `text.batch.pack`, or `pad` for models that need separate rows.
        packed: which of the two it is.
        token_budget: tokens of one forward pass.
        trunk: what frozen bottom layers computed, or None.
        balance: the load-balancing term of a mixture of experts, or None; added in training, logged as `aux_loss`.
        noise: on the embeddings in training passes, or None.
        sampler: answers the prompts of each step before it is made, for online methods; these compare with the
            reference themselves.
        on_step: called after every optimiser step with the step's metrics, on every rank.
        between_batches: called between two batches of a step; may raise `BatchStop`.
        args: transformers' arguments, with `logging_nan_inf_filter` off.

    Attributes:
        examination: looks on at every evaluation; None looks at nothing.
        step_groups: what this rank's last step was made on.
        evaluated: of the latest evaluation, how many rows and prompts it had and the standard errors of its means.
    """

    def __init__(
        self,
        *,
        model: torch.nn.Module,
        method: Method[Any],
        reference: Reference | None,
        train_groups: Sequence[EncodedGroup],
        eval_groups: Sequence[EncodedGroup] | None,
        collate: Callable[[Sequence[EncodedGroup]], Batch],
        packed: bool,
        token_budget: int,
        trunk: TrunkCache | None = None,
        balance: RouterBalance | None = None,
        noise: EmbeddingNoise | None = None,
        sampler: Sampler | None = None,
        on_step: Callable[[int, dict[str, float]], None],
        between_batches: Callable[[], None] = lambda: None,
        args: TrainingArguments,
        **kwargs: Any,
    ) -> None:
        self.method = method
        self.reference = reference
        self.split: Callable[[Sequence[EncodedGroup]], list[Batch]] = lambda groups: micro_batches(
            groups, token_budget, collate, packed=packed
        )
        self._trunk = trunk
        self._balance = balance
        self._noise = noise
        self.examination: Examination | None = None
        self.evaluated: dict[str, float] = {}
        self._rollouts = Rollouts(sampler, self.split, self.sum_over_ranks) if sampler is not None else None
        self._on_step = on_step
        self._between_batches = between_batches
        self._due_at_resume = (False, False)
        self._before_step: tuple[list[bytes], dict[str, float]] | None = None
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
        self._coupled = CoupledLoss(method, self._forward, reference, self.split, self.args.device)
        self._step_meter = Meter(self.args.device)
        self._log_meter = Meter(self.args.device)

    # ---- which groups form a step

    def _get_train_sampler(self, train_dataset: Any = None) -> StepOrder:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        if self._rollouts is not None and self._rollouts.updates > 1:
            step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            return StepOrder(len(dataset), step, seed, repeats=self._rollouts.updates)
        return self._order(len(dataset), self.args.train_batch_size, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> StepOrder:
        return self._order(len(eval_dataset), self.args.eval_batch_size, None)

    def _order(self, rows: int, batch: int, seed: int | None) -> StepOrder:
        # One process needs no filling: its last batch is simply shorter.
        multiple = batch * self.args.world_size if self.args.world_size > 1 else 1
        return StepOrder(rows, multiple, seed)

    def groups_of_run(self) -> list[EncodedGroup]:
        """The training groups that the run will meet: all, or the first of the order where max_steps ends it sooner."""
        groups = self.train_dataset.groups
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        wanted = self.args.max_steps * step if self.args.max_steps > 0 else len(groups)
        if wanted >= len(groups):
            return list(groups)
        return [groups[index] for index in list(self._get_train_sampler())[:wanted]]

    def _init_training_state(self, max_steps: int, *args: Any) -> tuple[int, int]:
        found: tuple[int, int] = super()._init_training_state(max_steps, *args)
        self._due_at_resume = self._due_but_missed(steps_in_epoch=args[0])
        # A checkpoint brings the intervals that it was written with; those of the config hold.
        self.state.compute_steps(self.args, max_steps)
        return found

    def _due_but_missed(self, *, steps_in_epoch: int) -> tuple[bool, bool]:
        """Whether an evaluation was due at the checkpoint's step and not made, and whether a checkpoint was due too.

        By the intervals that the checkpoint was written with: a signal stops a run before the evaluation.
        """
        state, step = self.state, self.state.global_step
        ends_epoch = step % steps_in_epoch == 0
        evaluates = {"steps": step % max(state.eval_steps, 1) == 0, "epoch": ends_epoch}
        saves = {"steps": step % max(state.save_steps, 1) == 0 or step == state.max_steps, "epoch": ends_epoch}
        made = any("eval_loss" in row and row["step"] == step for row in state.log_history)
        missed = step > 0 and not made and evaluates.get(self.args.eval_strategy, False)
        return missed, missed and saves.get(self.args.save_strategy, False)

    def make_up_evaluation(self, checkpoint: str) -> None:
        """Before a resumed run's first step: the evaluation that its checkpoint lacks, which may be the best one."""
        missed, save = self._due_at_resume
        if not missed:
            return
        self._load_rng_state(checkpoint)
        self.control.should_save = save
        values = self._evaluate(None, None)
        self._determine_best_metric(values, None)
        if self.control.should_save:
            self._save_checkpoint(self.model, None)
            self.control.should_save = False

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.control.should_training_stop:  # decided before the run was interrupted and resumed
            return
        if self.state.global_step >= self.state.max_steps:
            return  # killed behind its last step: a resumed Trainer would make one more
        sampler = order_of(kwargs["train_dataloader"])
        sampler.set_epoch(kwargs["epoch"])
        with self._step_scope:  # nothing else closes it where a step raises
            super()._run_epoch(*args, **kwargs)

    # ---- one step

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The step's lists of groups, answered where the method samples, and what its loss is divided by."""
        self._before_step = random_state(device), self.method.state()
        if self._rollouts is None:
            found: tuple[list[Any], Any] = super().get_batch_samples(epoch_iterator, num_batches, device)
            return found
        lists = self._rollouts.fill(list(islice(epoch_iterator, num_batches)), self.state.global_step)
        return lists, self._get_num_items_in_batch(lists, device)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """Σ w over the step's groups on all ranks: what the step's loss is divided by."""
        self._begin_step(batch_samples)
        total = sum(self.method.weight(group) for groups in batch_samples for group in groups)
        return self.sum_over_ranks(torch.tensor(total, dtype=torch.float64, device=device))

    def _begin_step(self, lists: list[list[EncodedGroup]]) -> None:
        self.step_groups, self._step_losses, self._step_lists = [], [], lists
        self._step_scored.clear()
        # Weights do not change within a step, so each is cast to the compute precision once.
        self._step_scope.close()
        self._step_scope.enter_context(reuse_casts())
        groups = sum(map(len, lists))
        self._step_pass = self._step_scope.enter_context(
            progress(f"step {self.state.global_step + 1}, examples", groups, delay=_SLOW_STEP)
        )

    def abandon_step(self) -> None:
        """Undo what a step that was broken off between two batches has changed; no weight has moved yet."""
        self._step_scope.close()
        self._step_meter.reset()
        self.model.zero_grad(set_to_none=True)
        if self._before_step is not None:
            state, method = self._before_step
            set_random_state(state, self.args.device)
            if method:
                self.method.restore(method)

    def save_checkpoint(self) -> None:
        """A checkpoint of the last complete step, unless there is one or no step was made."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.state.global_step and not (folder / SEAL).is_file():
            self._save_checkpoint(self.model, None)

    def training_step(
        self, model: torch.nn.Module, inputs: list[EncodedGroup], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Score, compare, go backward, one micro-batch at a time. Returns this batch's share of the step's loss."""
        model.train()
        assert isinstance(num_items_in_batch, torch.Tensor)
        # DDP averages gradients over ranks; the mean over the global step is a sum over them.
        scale = (self.args.world_size / num_items_in_batch).float()
        if self.method.couples_batch:
            return self._coupled_step(model, scale)
        batches = [batch.to(self.args.device) for batch in self.split(inputs)]
        references = self._reference_logps(batches)
        total = torch.zeros((), device=self.args.device)
        for number, (batch, reference) in enumerate(zip(batches, references)):
            self._between_batches()
            with self._sync_at(model, last=number == len(batches) - 1):
                output, weights, more = self._loss(model, batch, reference)
                loss = ((output.loss * weights).sum() + more) * scale
                self._record(batch.groups, output, weights)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _coupled_step(self, model: torch.nn.Module, scale: torch.Tensor) -> torch.Tensor:
        """The same for a loss of the whole step, which is scored when its first batch comes up."""
        if not self._step_scored:
            self._step_scored.extend(self._coupled.step(model, self._step_lists))
        step = self._step_scored.popleft()
        for number, one in enumerate(step.passes):
            self._between_batches()
            with self._sync_at(model, last=number == len(step.passes) - 1):
                scored = self._forward(model, one.batch)
                more = self._unevenness(scored, one.batch, self.method.weights(one.batch))
                self.accelerator.backward((scored.logps * one.gradient).sum() * self.args.world_size + more * scale)
        self._record(step.groups, step.output, step.weights)
        return (step.output.loss * step.weights).sum() * scale

    def _sync_at(self, model: torch.nn.Module, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Ranks exchange gradients in a batch's last pass only."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(model)

    def _forward(self, model: torch.nn.Module, batch: Batch) -> Any:
        inputs = self.method.inputs(batch)
        if self._balance is not None and torch.is_grad_enabled():
            inputs = {**inputs, "routers": True}
        noise = self._noise if model.training else None
        with noise.on(batch) if noise is not None else contextlib.nullcontext():
            return score(functools.partial(model, **inputs), batch, self._trunk)

    def _unevenness(self, output: Any, batch: Batch, weights: torch.Tensor) -> torch.Tensor | float:
        """What the balancing term adds to Σ w·loss of a batch that is trained on."""
        if self._balance is None or output.router_logits is None:
            return 0.0
        uneven = self._balance.loss(output.router_logits, batch)
        self._step_meter.add({"aux_loss": uneven.detach()}, weights)
        return self._balance.coefficient * (uneven * weights).sum()

    def _reference_logps(self, batches: Sequence[Batch]) -> list[Logps | None]:
        if self.reference is None:
            return [None] * len(batches)
        return [per_completion(tokens, batch) for tokens, batch in zip(self.reference.logps(batches), batches)]

    def _loss(
        self, model: torch.nn.Module, batch: Batch, reference: Logps | None
    ) -> tuple[LossOutput, torch.Tensor, torch.Tensor | float]:
        """Losses and weights of a batch's groups, and what training adds to Σ w·loss."""
        scored = self._forward(model, batch)
        output = self.method.loss(self.method.read(scored, batch), reference, batch)
        weights = self.method.weights(batch)
        # A repeated row must not count even where its loss is not finite.
        loss = torch.where(weights > 0, output.loss, torch.zeros_like(output.loss))
        return LossOutput(loss, output.metrics), weights, self._unevenness(scored, batch, weights)

    def _record(self, groups: Sequence[EncodedGroup], output: LossOutput, weights: torch.Tensor) -> None:
        losses = output.loss.detach()
        self.step_groups.extend(groups)
        if self._step_pass is not None:
            self._step_pass.reach(len(self.step_groups))
        self._step_losses.append(losses)
        self._step_meter.add({"loss": losses, **output.metrics}, weights)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The last look before the optimiser: raise on what is not finite, while the weights are still good."""
        self._step_scope.close()
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        losses = torch.cat(self._step_losses)
        value = norm.item() if isinstance(norm, torch.Tensor) else float(norm)
        # A gradient scaler (fp16) meets infinite gradients on purpose and skips such steps itself.
        gradient_bad = not torch.isfinite(torch.tensor(value)) and self.accelerator.scaler is None
        finite = torch.isfinite(losses)
        if gradient_bad or not bool(finite.all()):
            rows = [group.id for group, ok in zip(self.step_groups, finite.tolist()) if not ok]
            raise NonFiniteError(self._explain(rows, value))
        self._grad_norm = value
        # The rate of this very update; the schedule has moved on by the time the step is reported.
        self._step_learning_rate = float(self._get_learning_rate())
        return norm

    def _explain(self, rows: list[str], norm: float) -> str:
        where = f"step {self.state.global_step + 1}"
        kept = "the weights were not touched and the last checkpoint is from before this step"
        beta = "pref_beta: 0.2, " if self.reference is not None else ""  # a key of losses with a reference
        remedy = f"try learning_rate: 1e-7, {beta}max_grad_norm: 0.5, or precision: fp32"
        if rows:
            return f"{where}: the loss is not finite for {', '.join(rows[:5])}; {kept}; {remedy}"
        seen = ", ".join(group.id for group in self.step_groups[:5])
        return f"{where}: the gradient norm is {norm} (rows {seen}); {kept}; {remedy}"

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: transformers' formula counts padded tokens through every parameter."""
        del inputs
        return 0

    # ---- metrics

    def finish_step(self) -> dict[str, float]:
        """The metrics of the optimiser step that just ended, over all ranks; called by `callbacks.StepMetrics`."""
        self._before_step = None
        metrics = self._means(self._step_meter)
        metrics |= {"grad_norm": self._grad_norm, "learning_rate": self._step_learning_rate}
        self._log_meter.merge(self._step_meter)
        self._step_meter.reset()
        self._on_step(self.state.global_step, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Training lines carry the means over all examples since the last line."""
        if "loss" in logs:
            logs |= self._means(self._log_meter)
            self._log_meter.reset()
        super().log(logs, start_time)

    def _means(self, meter: Meter) -> dict[str, float]:
        return self.method.summarise(meter.means(self.sum_over_ranks))

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, summed in place over all ranks."""
        if self.args.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def _rows_of_all_ranks(self, rows: list[Row]) -> list[Row]:
        if self.args.world_size == 1:
            return rows
        parts: list[list[Row]] = [[] for _ in range(self.args.world_size)]
        torch.distributed.all_gather_object(parts, rows)
        return [row for part in parts for row in part]

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Means over examples, never over batches; repeated rows weigh 0."""
        del description, prediction_loss_only, ignore_keys
        prepared = bool(self.accelerator._models)
        model = self.model_wrapped if prepared else self.accelerator.prepare_model(self.model, evaluation_mode=True)
        model.eval()
        meter, errors = Meter(self.args.device), HeldOutErrors()
        held_out: list[EncodedGroup] = []
        rows = len(dataloader.dataset)  # type: ignore[arg-type]
        evaluating_rows = progress("evaluation", rows, delay=_SLOW_STEP)
        with torch.no_grad(), reuse_casts(), same_random_state(self.args.device), evaluating_rows as scored:
            for groups in dataloader:
                if self._rollouts is not None:
                    groups = self._rollouts.held_out(groups)
                scored.advance(len(groups) * self.args.world_size)
                if self.method.couples_batch:
                    held_out.extend(groups)
                    continue
                batches = [batch.to(self.args.device) for batch in self.split(groups)]
                for batch, reference in zip(batches, self._reference_logps(batches)):
                    output, weights, _ = self._loss(model, batch, reference)
                    meter.add({"loss": output.loss, **output.metrics}, weights)
                    errors.add(batch.groups, *self.method.by_row(batch.groups, output, weights))
                    if self.examination is not None:
                        self.examination.see(batch.groups, output)
                self.callback_handler.on_prediction_step(self.args, self.state, self.control)
            if held_out:
                output, weights = self._coupled.evaluate(model, held_out)
                meter.add({"loss": output.loss, **output.metrics}, weights)
                in_order = [group for batch in self.split(held_out) for group in batch.groups]
                errors.add(in_order, *self.method.by_row(in_order, output, weights))
        means = self._means(meter)
        self.evaluated = errors.facts(self._rows_of_all_ranks)
        if self.examination is not None:
            means |= self.examination.report(means)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=rows)

    def evaluation_metrics(self) -> list[str]:
        """The names of what an evaluation measures, by scoring one held-out group; nothing random is used up."""
        with torch.no_grad(), same_random_state(self.args.device), evaluating(self.model):
            groups = self.eval_dataset.groups[:1]
            if self._rollouts is not None:
                groups = self._rollouts.held_out(groups)
            batch = self.split(groups)[0].to(self.args.device)
            policy = self.method.read(self._forward(self.model, batch), batch)
            # Only the names are wanted, so the policy's own values do for the reference.
            output = self.method.loss(policy, policy if self.method.needs_reference else None, batch)
        return sorted(self.method.summarise(dict.fromkeys(("loss", *output.metrics), 1.0)))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether the run's best evaluation so far is this one, and leaves a checkpoint that can be loaded at the end.

        One at which health ends the run is not the best, unless it is the only one.
        """
        best = self.args.metric_for_best_model
        if f"eval_{best}" not in metrics:
            known = ", ".join(sorted(name.removeprefix("eval_") for name in metrics))
            raise TrainingError(f"metric_for_best_model: no held-out row has a value of {best}; choose from {known}")
        if self.args.save_strategy != "no" and not self.control.should_save:
            return False
        if self.examination is not None and self.examination.must_stop and self.state.best_metric is not None:
            return False
        return bool(super()._determine_best_metric(metrics, trial))

    # ---- checkpoints

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write, seal, and only then let go of older ones."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            if self.args.should_save and folder.exists():
                shutil.rmtree(folder)
            self.accelerator.wait_for_everyone()  # before another rank writes its part into the folder
            with write_errors(folder):
                super()._save_checkpoint(model, trial)
                state = self.method.state()
                if state and self.args.should_save:
                    write_json(folder / METHOD_STATE, state)
                if self._rollouts is not None:
                    self._rollouts.save(folder, self.args.process_index, main=self.args.should_save)
        except BaseException:
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal_folder(folder)
            rotate_checkpoints(
                output_dir=self.args.output_dir,
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self._load_renamed(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_renamed(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_renamed(self, checkpoint: str) -> bool:
        """Load weights that Trainer would pass over because of their names; sharded models have files of their own."""
        model, folder = self.model, Path(checkpoint)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not stored_otherwise(model, folder):
            return False
        load_renamed(model, folder)
        return True

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            follow_schedule(self.optimizer, self.lr_scheduler)
        if checkpoint is not None and (Path(checkpoint) / METHOD_STATE).exists():
            self.method.restore(read_json(Path(checkpoint) / METHOD_STATE))
        if checkpoint is not None and self._rollouts is not None:
            self._rollouts.restore(Path(checkpoint), self.args.process_index)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Model and tokenizer, loadable by transformers and PEFT as they are; no pickled arguments beside them."""
        if not self.args.should_save:
            return
        folder = output_dir if output_dir is not None else self.args.output_dir
        save_pretrained(self.accelerator.unwrap_model(self.model), str(folder), state_dict=state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
