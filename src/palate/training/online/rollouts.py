"""Rollouts: a step's prompts become groups with sampled answers, rewarded and scored, before the trainer sees them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from palate.artifacts import read_json, write_json
from palate.data.scores import GROUP_OF, columns_of
from palate.errors import ArtifactError
from palate.models.generation.generate import Decoding, generate, sampling_seed
from palate.models.precision import Precision
from palate.models.reference.kinds import Reference, evaluating
from palate.models.score import TokenLogps, score
from palate.models.value_head import load_value_head, save_value_head
from palate.text.batch import Batch
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.text.prompts import COLUMNS, CONVERSATION, TOOLS
from palate.text.template import Template
from palate.training.methods.online import GIVEN, SEEN, TOKENS, OnlineMethod, Sampled, Total
from palate.training.online.policy_engine import PolicyEngine
from palate.training.online.rewards import Rewarded, WeightedRewards

Split = Callable[[Sequence[EncodedGroup]], list[Batch]]


@dataclass(frozen=True, slots=True)
class Sampler:
    """What it takes to answer prompts and to reward the answers.

    Attributes:
        policy: unwrapped, with the scoring forward; it samples as it is at the moment.
        reference: what the KL is taken to.
        method: says how many answers, and what is kept of them.
        rewards: of the answers.
        template: of the prompts.
        decoding: how tokens are chosen; its seed is the run's.
        precision: of sampling and scoring.
        device: of this rank.
        engine: samples in the policy's place, where one is named.
        main: whether this process speaks for the policy.
    """

    policy: nn.Module
    reference: Reference
    method: OnlineMethod[Any]
    rewards: WeightedRewards
    template: Template
    decoding: Decoding
    precision: Precision
    device: torch.device
    engine: PolicyEngine | None = None
    main: bool = True


class Rollouts:
    """Fills groups for the trainer, and keeps them as long as the method makes steps on them.

    What is sampled for a prompt depends on the weights, the run's seed, the step, the prompt and the answer's number;
    not on the other prompts of the step, nor on how they are spread over ranks or batches.

    Args:
        sampler: see there.
        split: groups into batches within the token budget.
        total: sums a tensor over ranks.
    """

    def __init__(self, sampler: Sampler, split: Split, total: Total) -> None:
        self._sampler = sampler
        self._split = split
        self._total = total
        self._held: list[list[EncodedGroup]] | None = None

    @property
    def updates(self) -> int:
        """Steps on each batch of sampled answers."""
        return self._sampler.method.updates

    def fill(self, lists: Sequence[Sequence[EncodedGroup]], step: int) -> list[list[EncodedGroup]]:
        """This rank's DataLoader batches of step `step` (from 0), with answers; all ranks call it at the same time."""
        if step % self.updates and self._held is None:
            raise ArtifactError(
                "the checkpoint lacks the answers that its next step trains on; resume from another one"
            )
        if step % self.updates == 0 or self._held is None:
            filled = iter(self._filled([group for groups in lists for group in groups], step, training=True))
            self._held = [[next(filled) for _ in groups] for groups in lists]
        return self._held

    def held_out(self, groups: Sequence[EncodedGroup]) -> list[EncodedGroup]:
        """Held-out prompts with answers; the same random numbers at every evaluation."""
        return self._filled(groups, "held-out", training=False)

    # ---- from prompts to groups

    def _filled(self, groups: Sequence[EncodedGroup], moment: object, *, training: bool) -> list[EncodedGroup]:
        sampler, k = self._sampler, self._sampler.method.generations
        each = [group for group in groups for _ in range(k)]
        seeds = [sampling_seed(sampler.decoding.seed, moment, g.id, number) for g in groups for number in range(k)]
        ids = self._answers(each, seeds)
        columns = columns_of([group.extra[COLUMNS] for group in each])
        # Rows with equal prompts are groups of their own: a judge compares answers within a row.
        columns[GROUP_OF] = [number for number in range(len(groups)) for _ in range(k)]
        rewarded = sampler.rewards(
            [group.extra[CONVERSATION] for group in each], [sampler.template.decode(one) for one in ids], columns
        )
        answered = [
            replace(group, completions=tuple(_completion(one) for one in ids[place * k : (place + 1) * k]))
            for place, group in enumerate(groups)
        ]
        sampled = self._scored(answered, ids, rewarded)
        kept = sampler.method.prepare(sampled, self._total, training=training)
        return self._with_numbers(answered, sampled, rewarded, kept)

    def _answers(self, groups: Sequence[EncodedGroup], seeds: Sequence[int]) -> list[list[int]]:
        """One sampled answer to each group's prompt, as token ids."""
        sampler = self._sampler
        if sampler.engine is None:
            return generate(
                sampler.policy,
                [group.prompt_ids.tolist() for group in groups],
                sampler.decoding,
                stop_ids=sampler.template.stop_ids,
                precision=sampler.precision,
                seeds=seeds,
            )
        if sampler.main:
            sampler.engine.follow(sampler.policy)
        self._total(torch.zeros(1, device=sampler.device))  # nobody asks before the engine has the weights
        return sampler.engine.answers(
            [group.extra[CONVERSATION] for group in groups],
            sampler.template,
            sampler.decoding,
            seeds,
            tools=[group.extra[TOOLS] for group in groups],
        )

    def _scored(self, groups: Sequence[EncodedGroup], ids: Sequence[Sequence[int]], rewarded: Rewarded) -> Sampled:
        sampler, device = self._sampler, self._sampler.device
        batches = [batch.to(device) for batch in self._split(groups)]
        with torch.no_grad(), evaluating(sampler.policy), sampler.precision.context(device):
            policy: list[TokenLogps] = [score(sampler.policy, batch, None) for batch in batches]
        reference = sampler.reference.logps(batches)
        lengths = torch.tensor([len(one) for one in ids], device=device)
        mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]

        def padded(flat: Sequence[Tensor]) -> Tensor:
            """Token values of the batches, in their order, as [n, T] in the order of the groups."""
            found = torch.zeros(mask.shape, dtype=torch.float32, device=device)
            found[mask] = _in_order(flat, batches, groups)
            return found

        values = [one.values for one in policy if one.values is not None]
        return Sampled(
            scores=torch.tensor(_numbers(rewarded.total), dtype=torch.float64, device=device),
            ended=torch.tensor([one[-1] in sampler.template.stop_ids for one in ids], device=device),
            mask=mask,
            logps=padded([one.logps.float() for one in policy]),
            ref_logps=padded([one.logps.float() for one in reference]),
            values=padded(values) if values else None,
            counted=torch.tensor([group.weight > 0 for group in groups for _ in group.completions], device=device),
        )

    def _with_numbers(
        self, groups: Sequence[EncodedGroup], sampled: Sampled, rewarded: Rewarded, kept: Mapping[str, Tensor]
    ) -> list[EncodedGroup]:
        """Each group with its rewards as labels, the numbers of its tokens, and its metrics."""
        k = self._sampler.method.generations
        sizes = [sum(len(completion.ids) for completion in group.completions) for group in groups]
        each = {
            name: value if value.dim() == 2 else value[:, None].expand_as(sampled.mask) for name, value in kept.items()
        }
        tokens = {name: torch.split(value[sampled.mask], sizes) for name, value in each.items()}
        seen = {
            "reward": sampled.scores,
            **{f"rewards/{name}": torch.tensor(_numbers(given)) for name, given in rewarded.terms.items()},
            "kl": sampled.kl,
            "length": sampled.mask.sum(-1),
            "ended": sampled.ended,
        }
        partial = {f"{GIVEN}{name}": ~value.isnan() for name, value in seen.items() if name.startswith("reward")}
        means = {
            name: value.float().nan_to_num().cpu().view(-1, k).mean(-1).tolist()
            for name, value in {**seen, **partial}.items()
        }
        spread = [_spread(rewarded.total[place * k : (place + 1) * k]) for place in range(len(groups))]
        return [
            replace(
                group,
                labels=tuple(_numbers(rewarded.total[place * k : (place + 1) * k])),
                extra={
                    TOKENS: {name: parts[place].cpu().numpy() for name, parts in tokens.items()},
                    SEEN: {**{name: value[place] for name, value in means.items()}, "reward_spread": spread[place]},
                },
            )
            for place, group in enumerate(groups)
        ]

    # ---- checkpoints

    def save(self, folder: Path, rank: int, *, main: bool) -> None:
        """Write what a resumed run cannot make again: the value head, and answers that more steps are made on."""
        if main:
            save_value_head(self._sampler.policy, folder)
        if self.updates > 1 and self._held is not None:
            rows = [[_to_json(group) for group in groups] for groups in self._held]
            write_json(folder / f"rollouts-{rank}.json", {"lists": rows}, indent=None)

    def restore(self, folder: Path, rank: int) -> None:
        """Go on from what `save` wrote."""
        load_value_head(self._sampler.policy, folder)
        path = folder / f"rollouts-{rank}.json"
        if path.exists():
            self._held = [[_from_json(row) for row in rows] for rows in read_json(path)["lists"]]


def _numbers(rewards: Sequence[float | None]) -> list[float]:
    """NaN where there is no reward."""
    return [math.nan if reward is None else reward for reward in rewards]


def _spread(rewards: Sequence[float | None]) -> float:
    """Population deviation of the rewards that there are; exactly 0 of equal ones."""
    given = [reward for reward in rewards if reward is not None]
    return statistics.pstdev(given) if given and min(given) < max(given) else 0.0


def _completion(ids: Sequence[int]) -> EncodedCompletion:
    return EncodedCompletion(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.bool_))


def _in_order(flat: Sequence[Tensor], batches: Sequence[Batch], groups: Sequence[EncodedGroup]) -> Tensor:
    """Token values of batches, which are made longest groups first, in the order of the groups."""
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
        TOKENS: group.extra[TOKENS],
        SEEN: group.extra[SEEN],
    }


def _from_json(row: Mapping[str, Any]) -> EncodedGroup:
    return EncodedGroup(
        row["id"],
        np.array(row["prompt_ids"], dtype=np.int32),
        tuple(_completion(ids) for ids in row["completions"]),
        row["weight"],
        row["source"],
        tuple(_numbers(row["labels"])),
        {TOKENS: {name: np.array(v, dtype=np.float32) for name, v in row[TOKENS].items()}, SEEN: row[SEEN]},
    )
