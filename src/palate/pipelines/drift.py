"""Drift: how far a model has moved from a pipeline's first model, as KL, margins and accuracies on fixed data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from palate.evaluation.accuracy.held_out import encode_pairs
from palate.evaluation.accuracy.preference import Accuracy, preference_accuracy
from palate.evaluation.subject import ModelSpec, Subject
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.precision import default_device, resolve
from palate.records import PreferencePair, Record, prompt_key
from palate.stats import Interval, cluster_mean_interval


@dataclass(frozen=True, slots=True)
class Drift:
    """A model compared with the pipeline's first model.

    Attributes:
        kl: KL(π‖π_first) in nats per answer, the k1 estimate (`objectives.kl`) on the model's own samples.
        accuracy: of both models on fixed held-out pairs, with the margin between them; None without such pairs.
    """

    kl: Interval
    accuracy: Accuracy | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        parts = [f"KL to the first model {self.kl.estimate:.2f} nats an answer"]
        if self.accuracy is not None:
            parts.append(f"held-out accuracy {100 * self.accuracy.policy.estimate:.1f} %")
            parts.append(f"margin {self.accuracy.margin.estimate:+.2f} nats")
        return ", ".join(parts)


def measure_drift(
    first: ModelSpec,
    policy: ModelSpec,
    prompts: Sequence[Record],
    pairs: Sequence[PreferencePair],
    *,
    precision: str,
    max_new_tokens: int,
    cutoff_len: int,
    seed: int,
) -> Drift:
    """Compare two models, one in memory at a time.

    Args:
        first, policy: the models; they must share a tokenizer.
        prompts: fixed prompts; the policy answers each once, with its tools and the same random numbers every time.
        pairs: fixed held-out pairs; may be empty.
    """
    device = default_device()
    resolved = resolve(precision, device)
    decoding = Decoding(max_new_tokens, temperature=1.0, seed=seed)
    seeds = [sampling_seed(seed, "drift", index) for index in range(len(prompts))]
    subject = Subject(policy, resolved, device)
    messages, tools = [record.prompt for record in prompts], [record.tools for record in prompts]
    answers = subject.sampled(messages, decoding, seeds, tools=tools)
    groups = encode_pairs(list(pairs), subject.template, cutoff_len) if pairs else []
    after = subject.score([*answers, *groups])
    del subject
    give_back_memory()
    before = Subject(first, resolved, device).score([*answers, *groups])
    n = len(answers)
    kl = [new[0] - old[0] for (new, _), (old, _) in zip(after[:n], before[:n])]
    names = {pair.id: prompt_key(pair.prompt) for pair in pairs}
    prompts_of_pairs = [names[group.id] for group in groups]
    accuracy = preference_accuracy(before[n:], after[n:], prompts=prompts_of_pairs) if groups else None
    return Drift(cluster_mean_interval(kl, [prompt_key(prompt) for prompt in messages]), accuracy)
