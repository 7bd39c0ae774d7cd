"""Rollouts: samples answers to a step's prompts, rewards and scores them, before the trainer computes the loss."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from palate.artifacts import read_json, write_json
from palate.data.scores import GROUP_OF, columns_of
from palate.errors import ArtifactError
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.generate import generate
from palate.models.precision import Precision
from palate.models.reference.kinds import Reference
from palate.models.scoring.forward import score
from palate.models.scoring.logps import TokenLogps
from palate.models.scoring.value_head import load_value_head, save_value_head
from palate.models.upstream import evaluating
from palate.records import Record
from palate.text.batch import Batch
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.text.template import Template
from palate.training.methods.online import GIVEN, OnlineMethod, Sampled
from palate.training.online.policy_engine import PolicyEngine
from palate.training.online.rewards import Rewarded, WeightedRewards
from palate.training.processes import sum_over_ranks

Split = Callable[[Sequence[EncodedGroup]], list[Batch]]


@dataclass
class StepRollouts:
    """Samples, rewards and scores answers for the trainer's groups, and reuses them for the method's `updates` steps.

    An answer depends on the weights, the run's seed, the step, the prompt and the answer's index, not on the other
    prompts of the step or their distribution over ranks and batches.

    Attributes:
        policy: unwrapped, with the scoring forward.
        reference: for the KL.
        method: sets the number of answers and computes the values that its loss reads.
        rewards: the reward functions with their weights.
        template: chat template of the prompts.
        decoding: sampling settings, with the run's seed.
        precision: precision of sampling and scoring.
        device: device of this rank.
        engine: samples instead of the policy, if set.
        main: True if this process sends the policy's weights to the engine.
        split: divides groups into batches within the token budget.
    """

    policy: nn.Module
    reference: Reference
    method: OnlineMethod
    rewards: WeightedRewards
    template: Template
    decoding: Decoding
    precision: Precision
    device: torch.device
    engine: PolicyEngine | None
    main: bool
    split: Split
    _answered: list[list[EncodedGroup]] | None = field(default=None, init=False)

    def fill(self, lists: Sequence[Sequence[EncodedGroup]], step: int) -> list[list[EncodedGroup]]:
        """This rank's DataLoader batches of a step (counted from 0), with answers; all ranks call it together."""
        if step % self.method.updates and self._answered is None:
            raise ArtifactError(
                "the checkpoint lacks the answers that its next step trains on; resume from another one"
            )
        if step % self.method.updates == 0 or self._answered is None:
            filled = iter(self._filled([group for groups in lists for group in groups], step, training=True))
            self._answered = [[next(filled) for _ in groups] for groups in lists]
        return self._answered

    def held_out(self, groups: Sequence[EncodedGroup]) -> list[EncodedGroup]:
        """Held-out prompts with answers, sampled with the same random numbers at every evaluation."""
        return self._filled(groups, "held-out", training=False)

    # ---- from prompts to groups

    def _filled(self, groups: Sequence[EncodedGroup], step: int | str, *, training: bool) -> list[EncodedGroup]:
        """The groups with K sampled answers each, their rewards, metrics and token values; `step` seeds sampling."""
        k = self.method.generations
        repeated = [group for group in groups for _ in range(k)]
        seeds = [sampling_seed(self.decoding.seed, step, g.id, number) for g in groups for number in range(k)]
        ids = self._answers(repeated, seeds)
        rows = [_record(group) for group in repeated]
        columns = columns_of([row.extra for row in rows])
        # Two rows with equal prompts stay separate groups: a judge compares answers within a row.
        columns[GROUP_OF] = [number for number in range(len(groups)) for _ in range(k)]
        texts = [self.template.decode(answer) for answer in ids]
        rewarded = self.rewards([row.prompt for row in rows], texts, columns)
        answered = [
            replace(group, completions=tuple(_completion(answer) for answer in ids[index * k : (index + 1) * k]))
            for index, group in enumerate(groups)
        ]
        sampled = self._scored(answered, ids, rewarded)
        kept = self.method.prepare(sampled, training=training)
        return self._with_results(answered, sampled, rewarded, kept)

    def _answers(self, groups: Sequence[EncodedGroup], seeds: Sequence[int]) -> list[list[int]]:
        """Sample one answer to each group's prompt; returns token ids."""
        if self.engine is None:
            return generate(
                self.policy,
                [group.prompt_ids.tolist() for group in groups],
                self.decoding,
                stop_ids=self.template.stop_ids,
                precision=self.precision,
                seeds=seeds,
            )
        if self.main:
            self.engine.follow(self.policy)
        sum_over_ranks(torch.zeros(1, device=self.device))  # all ranks wait until the engine has the weights
        return self.engine.answers([_record(group) for group in groups], self.decoding, seeds)

    def _scored(self, groups: Sequence[EncodedGroup], ids: Sequence[Sequence[int]], rewarded: Rewarded) -> Sampled:
        """The answers as tensors, with log-probabilities under policy and reference."""
        device = self.device
        batches = [batch.to(device) for batch in self.split(groups)]
        with torch.no_grad(), evaluating(self.policy), self.precision.context(device):
            policy: list[TokenLogps] = [score(self.policy, batch, None) for batch in batches]
        reference = self.reference.logps(batches)
        lengths = torch.tensor([len(answer) for answer in ids], device=device)
        mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]

        def padded(flat: Sequence[Tensor]) -> Tensor:
            """Token values of the batches, one tensor each, as [n, T] in the order of the groups."""
            found = torch.zeros(mask.shape, dtype=torch.float32, device=device)
            found[mask] = _in_order(flat, batches, groups)
            return found

        values = [tokens.values for tokens in policy if tokens.values is not None]
        return Sampled(
            scores=torch.tensor(_numbers(rewarded.total), dtype=torch.float64, device=device),
            ended=torch.tensor([answer[-1] in self.template.stop_ids for answer in ids], device=device),
            mask=mask,
            logps=padded([tokens.logps.float() for tokens in policy]),
            ref_logps=padded([tokens.logps.float() for tokens in reference]),
            values=padded(values) if values else None,
            counted=torch.tensor([group.weight > 0 for group in groups for _ in group.completions], device=device),
        )

    def _with_results(
        self, groups: Sequence[EncodedGroup], sampled: Sampled, rewarded: Rewarded, kept: Mapping[str, Tensor]
    ) -> list[EncodedGroup]:
        """Each group with its rewards as labels, the method's token values and its metrics."""
        k = self.method.generations
        sizes = [sum(len(completion.ids) for completion in group.completions) for group in groups]
        per_token = {
            name: value if value.dim() == 2 else value[:, None].expand_as(sampled.mask) for name, value in kept.items()
        }
        tokens = {name: torch.split(value[sampled.mask], sizes) for name, value in per_token.items()}
        measured = {
            "reward": sampled.scores,
            **{f"rewards/{name}": torch.tensor(_numbers(term)) for name, term in rewarded.terms.items()},
            "kl": sampled.kl,
            "length": sampled.mask.sum(-1),
            "ended": sampled.ended,
        }
        # Some answers may lack a reward: their share is needed to average over the others.
        given = {f"{GIVEN}{name}": ~value.isnan() for name, value in measured.items() if name.startswith("reward")}
        means = {
            name: value.float().nan_to_num().cpu().view(-1, k).mean(-1).tolist()
            for name, value in {**measured, **given}.items()
        }
        rewards = [rewarded.total[index * k : (index + 1) * k] for index in range(len(groups))]
        means["reward_spread"] = [_standard_deviation(of_group) for of_group in rewards]
        return [
            replace(
                group,
                labels=tuple(_numbers(rewards[index])),
                record=None,
                tokens={name: parts[index].cpu().numpy() for name, parts in tokens.items()},
                metrics={name: value[index] for name, value in means.items()},
            )
            for index, group in enumerate(groups)
        ]

    # ---- checkpoints

    def save(self, folder: Path, rank: int, *, main: bool) -> None:
        """Write the state that a resumed run needs: the value head, and answers with updates left."""
        if main:
            save_value_head(self.policy, folder)
        if self.method.updates > 1 and self._answered is not None:
            rows = [[_to_json(group) for group in groups] for groups in self._answered]
            write_json(folder / f"rollouts-{rank}.json", {"lists": rows}, indent=None)

    def restore(self, folder: Path, rank: int) -> None:
        """Load the state that `save` wrote."""
        load_value_head(self.policy, folder)
        path = folder / f"rollouts-{rank}.json"
        if path.exists():
            self._answered = [[_from_json(row) for row in rows] for rows in read_json(path)["lists"]]


def with_longest_answers(groups: Sequence[EncodedGroup], k: int, tokens: int) -> list[EncodedGroup]:
    """The prompts with K answers of `tokens` tokens each, for planning memory."""
    answers = (_completion([0] * tokens),) * k
    return [replace(group, completions=answers) for group in groups]


def _record(group: EncodedGroup) -> Record:
    assert group.record is not None  # groups of prompts have it (`text.prompts`)
    return group.record


def _numbers(rewards: Sequence[float | None]) -> list[float]:
    """The rewards, with NaN for None."""
    return [math.nan if reward is None else reward for reward in rewards]


def _standard_deviation(rewards: Sequence[float | None]) -> float:
    """Population standard deviation of the rewards that are not None; exactly 0 if they are equal."""
    given = [reward for reward in rewards if reward is not None]
    return statistics.pstdev(given) if given and min(given) < max(given) else 0.0


def _completion(ids: Sequence[int]) -> EncodedCompletion:
    return EncodedCompletion(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.bool_))


def _in_order(flat: Sequence[Tensor], batches: Sequence[Batch], groups: Sequence[EncodedGroup]) -> Tensor:
    """Reorder the token values of batches, which have the longest groups first, into the order of the groups."""
    parts: dict[int, Tensor] = {}
    for values, batch in zip(flat, batches):
        sizes = [sum(len(completion.ids) for completion in group.completions) for group in batch.groups]
        parts.update((id(group), part) for group, part in zip(batch.groups, torch.split(values, sizes)))
    return torch.cat([parts[id(group)] for group in groups])


def _to_json(group: EncodedGroup) -> dict[str, Any]:
    return {
        "id": group.id,
        "prompt_ids": group.prompt_ids,
        "completions": [completion.ids for completion in group.completions],
        "weight": group.weight,
        "source": group.source,
        "labels": group.labels,
        "tokens": group.tokens,
        "seen": group.metrics,
    }


def _from_json(row: Mapping[str, Any]) -> EncodedGroup:
    return EncodedGroup(
        row["id"],
        np.array(row["prompt_ids"], dtype=np.int32),
        tuple(_completion(ids) for ids in row["completions"]),
        row["weight"],
        row["source"],
        tuple(_numbers(row["labels"])),
        tokens={name: np.array(values, dtype=np.float32) for name, values in row["tokens"].items()},
        metrics=row["seen"],
    )
