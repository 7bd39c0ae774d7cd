"""What is looked at at every evaluation: answers to fixed prompts beside the reference's, and held-out margins."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from palate.artifacts import RunDir, read_json, write_json
from palate.config.stages.health import HealthFields
from palate.errors import PalateError
from palate.models.generation.generate import Decoding, generate, sampling_seed
from palate.models.precision import Precision
from palate.models.reference.kinds import Reference, evaluating
from palate.models.reference.offloaded import OffloadedModel, offload
from palate.models.score import score
from palate.text.batch import Batch
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.health.degradation import Sign, Vitals, signs, vitals
from palate.training.health.reward_hacking import LengthCorrelation, MarginsWithoutGain, length_signs
from palate.training.methods.base import LossOutput

Split = Callable[[Sequence[EncodedGroup]], list[Batch]]


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined, and how.

    Attributes:
        policy: unwrapped, with the scoring forward.
        reference: what it is compared with, of any kind, or None; then with itself as it starts, and without a KL.
        prompts: token ids of the fixed prompts; empty samples nothing.
        stop_ids: that end an answer.
        limits: thresholds, and how many tokens to sample.
        seed: of the sampling.
        precision: of the run.
        device: of this rank.
    """

    policy: nn.Module
    reference: Reference | None
    prompts: Sequence[Sequence[int]]
    stop_ids: Sequence[int]
    limits: HealthFields
    seed: int
    precision: Precision
    device: torch.device


class Examination:
    """Measures at the start and at every evaluation, and says what is wrong.

    Args:
        patient: see there.
        split: groups into batches within the token budget.
        total: sums a tensor over ranks.
        found: called with each sign, at every evaluation that shows it.
        say: a line for a person.
        main: whether this rank samples and concludes; the others only look at their share of the held-out pairs.

    Attributes:
        must_stop: something was seen, and the config wants a run to end then.
    """

    def __init__(
        self,
        patient: Patient,
        split: Split,
        total: Callable[[Tensor], Tensor],
        found: Callable[[Sign], None],
        say: Callable[[str], None],
        *,
        main: bool,
    ) -> None:
        self._patient = patient
        self._split = split
        self._total = total
        self._found = found
        self._say = say
        self._main = main
        self._samples = main and bool(patient.prompts)
        self._lengths = LengthCorrelation(total, patient.device)
        self._gain = MarginsWithoutGain(patient.limits)
        self._baseline: Vitals | None = None
        self._reference: OffloadedModel | None = None
        self.must_stop = False

    def begin(self, folder: RunDir, *, fresh: bool) -> None:
        """Before the first step, while the reference can still answer: its vitals, kept for a run that is resumed."""
        if not self._samples:
            return
        patient, path = self._patient, folder.vitals
        if patient.reference is not None:
            self._reference = offload(patient.reference, folder.path)
        if not fresh and path.exists():
            self._baseline = Vitals(**read_json(path)["vitals"])
            return
        with self._reference.active() if self._reference else contextlib.nullcontext(patient.policy) as model:
            answers = self._answers(model)
            self._baseline = self._vitals(answers, self._logps(model, answers))
        of = "reference" if patient.reference is not None else "policy at the start"
        write_json(path, {"schema": 1, "of": of, "prompts": len(patient.prompts), "vitals": asdict(self._baseline)})

    def end(self) -> None:
        """Nothing more will be measured."""
        if self._reference is not None:
            self._reference.close()

    def replay(self, row: Mapping[str, float], *, evaluation: bool) -> None:
        """A row of the log of a run that is resumed: what was seen in it counts as seen."""
        if not evaluation:
            self._gain.on_step(row)
            return
        seen = self._conclude(row.get("health/length_correlation"), row, Vitals.logged(row))
        self.must_stop = self.must_stop or (seen > 0 and self._patient.limits.health == "stop")

    def agree(self) -> None:
        """The main rank decides, and all stop together; every rank calls it at the same time."""
        self.must_stop = bool(self._total(torch.tensor(float(self.must_stop), device=self._patient.device)) > 0)

    def see(self, groups: Sequence[EncodedGroup], output: LossOutput) -> None:
        """A batch of held-out groups."""
        margins = output.metrics.get("rewards/margins")
        if margins is not None and all(len(group.completions) == 2 for group in groups):
            self._lengths.see(groups, margins)

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        del step
        self._gain.on_step(metrics)

    def report(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """What to add to an evaluation's metrics; every rank calls it at the same time."""
        correlation = self._lengths.take()
        now = self._examine() if self._samples else None
        # The figures are those of all ranks, and the past of a resumed run is known to the main one alone.
        seen = self._conclude(correlation, metrics, now) if self._main else 0
        self.must_stop = self.must_stop or (seen > 0 and self._patient.limits.health == "stop")
        self.agree()
        told = {} if correlation is None else {"health/length_correlation": correlation}
        return told if now is None else {**told, **now.metrics()}

    def _conclude(self, correlation: float | None, metrics: Mapping[str, float], now: Vitals | None) -> int:
        """Tell what is wrong, and how many things are."""
        limits = self._patient.limits
        found: list[Sign] = list(length_signs(correlation, limits))
        if "rewards/accuracies" in metrics:
            found += self._gain.on_evaluation(metrics["rewards/accuracies"])
        if now is not None and self._baseline is not None:
            found += signs(now, self._baseline, limits)
        for sign in found:
            self._found(sign)
        return len(found)

    def _examine(self) -> Vitals:
        policy = self._patient.policy
        answers = self._answers(policy)
        return self._vitals(answers, self._logps(policy, answers), self._under_reference(answers))

    def _under_reference(self, answers: Sequence[EncodedGroup]) -> list[float] | None:
        """log π_ref of the policy's own answers."""
        if self._reference is None:
            return None
        try:
            with self._reference.active() as model:
                return self._logps(model, answers)
        except PalateError as error:  # a look is never worth a run
            self._say(f"health: no KL from here on: {error}")
            self._reference = None
            return None

    def _answers(self, model: nn.Module) -> list[EncodedGroup]:
        """Sampled from the model's own distribution, with the same numbers every time."""
        patient = self._patient
        decoding = Decoding(patient.limits.health_max_new_tokens, temperature=1.0, seed=patient.seed)
        seeds = [sampling_seed(patient.seed, "health", place) for place in range(len(patient.prompts))]
        ids = generate(
            model, patient.prompts, decoding, stop_ids=patient.stop_ids, precision=patient.precision, seeds=seeds
        )
        return [_group(place, prompt, answer) for place, (prompt, answer) in enumerate(zip(patient.prompts, ids))]

    def _logps(self, model: nn.Module, groups: Sequence[EncodedGroup]) -> list[float]:
        """log π of each answer, in the order of the groups; the trunk is left alone, these are seen once."""
        device = self._patient.device
        found: dict[str, float] = {}
        with torch.no_grad(), evaluating(model), self._patient.precision.context(device):
            for batch in (one.to(device) for one in self._split(groups)):
                logps = score(model, batch, None).logps.float()
                sums = logps.new_zeros(batch.completions).index_add(0, batch.completion_of, logps)
                found.update(zip((group.id for group in batch.groups), sums.tolist(), strict=True))
        return [found[group.id] for group in groups]

    def _vitals(
        self, groups: Sequence[EncodedGroup], logps: Sequence[float], ref_logps: Sequence[float] | None = None
    ) -> Vitals:
        return vitals([group.completions[0].ids.tolist() for group in groups], self._patient.stop_ids, logps, ref_logps)


def _group(place: int, prompt: Sequence[int], answer: Sequence[int]) -> EncodedGroup:
    completion = EncodedCompletion(np.array(answer, dtype=np.int32), np.ones(len(answer), dtype=np.bool_))
    return EncodedGroup(f"health:{place}", np.array(prompt, dtype=np.int32), (completion,))
