"""Answers to fixed prompts at every evaluation, compared with the reference's; correlation of margins with length."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import nn

from palate.artifacts import RunDir, read_json, write_json
from palate.errors import PalateError
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.generate import generate
from palate.models.precision import Precision
from palate.models.reference.kinds import Reference
from palate.models.reference.precomputed import OffloadedModel, offload
from palate.models.scoring.forward import score
from palate.models.upstream import evaluating
from palate.text.batch import Batch
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.health.metrics import HealthMetrics, measure_answers
from palate.training.meters import HeldOutRow

# With fewer held-out pairs a large correlation is easily chance: of 16, 0.7 comes up once in 400 times.
_FEWEST_PAIRS = 16


@dataclass
class AnswerEvaluation:
    """Samples answers to the same prompts with the same random numbers at every evaluation, and measures them.

    Attributes:
        policy: unwrapped, with the scoring forward.
        reference: of any kind, or None: then answers are compared with the policy's own at the start, without a KL.
        prompts: token ids of the fixed prompts.
        stop_ids: tokens that end an answer.
        max_new_tokens: longest answer.
        seed: of the sampling.
        precision: of the run.
        device: of this rank.
        split: groups into batches within the token budget.
        report: prints a line for the user.
        baseline: metrics of the reference's answers, after `begin`.
    """

    policy: nn.Module
    reference: Reference | None
    prompts: Sequence[Sequence[int]]
    stop_ids: Sequence[int]
    max_new_tokens: int
    seed: int
    precision: Precision
    device: torch.device
    split: Callable[[Sequence[EncodedGroup]], list[Batch]]
    report: Callable[[str], None]
    baseline: HealthMetrics | None = None
    _offloaded: OffloadedModel | None = field(default=None, init=False)

    def begin(self, folder: RunDir, *, fresh: bool) -> None:
        """Before the first step, while the reference is in memory: measure its answers, or read what `fresh` wrote."""
        if self.reference is not None:
            self._offloaded = offload(self.reference, folder.path)
        if not fresh and folder.health.exists():
            self.baseline = HealthMetrics(**read_json(folder.health)["vitals"])
            return
        with self._offloaded.active() if self._offloaded else contextlib.nullcontext(self.policy) as model:
            answers = self._sample(model)
            self.baseline = self._metrics(answers, self._logps(model, answers), None)
        of = "reference" if self.reference is not None else "policy at the start"
        vitals = asdict(self.baseline)
        write_json(folder.health, {"schema": 1, "of": of, "prompts": len(self.prompts), "vitals": vitals})

    def measure(self) -> HealthMetrics:
        """The metrics of the policy's answers now."""
        answers = self._sample(self.policy)
        return self._metrics(answers, self._logps(self.policy, answers), self._reference_logps(answers))

    def close(self) -> None:
        """Delete what the reference left on disk."""
        if self._offloaded is not None:
            self._offloaded.close()

    def _reference_logps(self, answers: Sequence[EncodedGroup]) -> list[float] | None:
        if self._offloaded is None:
            return None
        try:
            with self._offloaded.active() as model:
                return self._logps(model, answers)
        except PalateError as error:  # e.g. ref_model was deleted meanwhile: the run goes on without a KL
            self.report(f"health: no KL from here on: {error}")
            self._offloaded = None
            return None

    def _sample(self, model: nn.Module) -> list[EncodedGroup]:
        """One answer to each prompt, sampled from the model's whole distribution."""
        ids = generate(
            model,
            self.prompts,
            Decoding(self.max_new_tokens, temperature=1.0, seed=self.seed),
            stop_ids=self.stop_ids,
            precision=self.precision,
            seeds=[sampling_seed(self.seed, "health", number) for number in range(len(self.prompts))],
        )
        return [
            EncodedGroup(
                f"health:{number}",
                np.array(prompt, dtype=np.int32),
                (EncodedCompletion(np.array(answer, dtype=np.int32), np.ones(len(answer), dtype=np.bool_)),),
            )
            for number, (prompt, answer) in enumerate(zip(self.prompts, ids))
        ]

    def _logps(self, model: nn.Module, answers: Sequence[EncodedGroup]) -> list[float]:
        """log π of each answer under any model, in their order; no trunk cache, because they are scored once."""
        found: dict[str, float] = {}
        with torch.no_grad(), evaluating(model), self.precision.context(self.device):
            for batch in (part.to(self.device) for part in self.split(answers)):
                logps = score(model, batch, None).logps.float()  # [M]
                sums = logps.new_zeros(batch.completions).index_add(0, batch.completion_of, logps)  # [C]
                found.update(zip((group.id for group in batch.groups), sums.tolist(), strict=True))
        return [found[answer.id] for answer in answers]

    def _metrics(
        self, answers: Sequence[EncodedGroup], logps: Sequence[float], ref_logps: Sequence[float] | None
    ) -> HealthMetrics:
        ids = [answer.completions[0].ids.tolist() for answer in answers]
        return measure_answers(ids, self.stop_ids, logps, ref_logps)


def length_correlation(rows: Sequence[HeldOutRow]) -> float | None:
    """Pearson's correlation of held-out margins with length differences; None for few pairs or without any spread."""
    pairs = [
        (row.values["rewards/margins"], row.length_difference)
        for row in rows
        if row.length_difference is not None and math.isfinite(row.values.get("rewards/margins", math.nan))
    ]
    if len(pairs) < _FEWEST_PAIRS:
        return None
    margins, differences = np.array(pairs, dtype=np.float64).T  # [pairs] each
    margins, differences = margins - margins.mean(), differences - differences.mean()
    spread = float((margins @ margins) * (differences @ differences))
    return float(margins @ differences) / math.sqrt(spread) if spread > 1e-12 else None
