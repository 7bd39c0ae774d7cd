"""What the experiments on a real model measure of it: pairs ordered, answers, repetition, distance to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from _cells import Record
from _real_pairs import read_pairs

from palate.evaluation.accuracy.held_out import encode_pairs
from palate.evaluation.accuracy.preference import preference_accuracy
from palate.evaluation.frontier.answers import score_answers
from palate.evaluation.subject import ModelSpec, Subject, read_run
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.precision import default_device, resolve
from palate.records import Messages
from palate.stats import mean_interval
from palate.training.health.metrics import distinct_2, loops

# Per pair [Σ log π of chosen, of rejected], [tokens of chosen, of rejected]; plain lists, so that a cell can keep it.
PairScores: TypeAlias = dict[str, list[list[float]]]


def opened(spec: ModelSpec) -> Subject:
    """The model as it is measured, in the precision that training takes on this machine."""
    device = default_device()
    return Subject(spec, resolve("auto", device), device)


def policy_of(run: Path) -> ModelSpec:
    """The trained model of a run."""
    return read_run(run).policy


def forget_weights(run: Path) -> None:
    """A trained model that is measured is not needed any more; half a gigabyte for each would fill a laptop's disk."""
    for path in run.glob("*.safetensors"):
        path.unlink()


def pair_scores(subject: Subject, pairs: Path, cutoff_len: int) -> PairScores:
    """Log-probabilities of the two answers of each pair of a file."""
    groups = encode_pairs(read_pairs(pairs), subject.template, cutoff_len)
    scores = subject.score(groups)
    return {group.id: [list(sums), list(map(float, n))] for group, (sums, n) in zip(groups, scores, strict=True)}


def accuracies(before: PairScores, after: PairScores) -> Record:
    """Reference, policy and implied-reward accuracy of the pairs that both scored, by mean and by sum.

    Each pair counts as one of a prompt of its own.

    Returns:
        `n`; `reference_mean`, `policy_mean`, `reference_sum`, `policy_sum`: by a model's own log-probability, per token
        and of whole answers; `implied`: by log π/π_ref of whole answers; `margin`: its mean, nats. Intervals of 95 %.
    """
    shared = [pair for pair in before if pair in after]
    sides = [[(one[pair][0], list(map(int, one[pair][1]))) for pair in shared] for one in (before, after)]
    found = {average: preference_accuracy(*sides, prompts=shared, average=average) for average in ("mean", "sum")}
    mean, whole = found["mean"], found["sum"]
    rows = {
        "reference_mean": mean.reference,
        "policy_mean": mean.policy,
        "reference_sum": whole.reference,
        "policy_sum": whole.policy,
        "implied": mean.implied,
        "margin": mean.margin,
    }
    return {"n": len(shared), **{name: asdict(one) for name, one in rows.items()}}


def answers(subject: Subject, prompts: Sequence[Messages], max_new_tokens: int) -> list[Record]:
    """The likeliest answer to each prompt, with what says whether it repeats itself."""
    found = subject.answers(prompts, Decoding(max_new_tokens))
    rows = []
    for one in found:
        ids = subject.template.tokenizer(one.text, add_special_tokens=False)["input_ids"]
        rows.append({"text": one.text, "tokens": one.tokens, "ended": one.finish_reason == "stop", **_repetition(ids)})
    return rows


def drift(
    policy: Subject, reference: Subject, prompts: Sequence[Messages], *, max_new_tokens: int, seed: int
) -> Record:
    """How far the policy went: one answer to each prompt sampled from it, and KL(π‖π_ref) along each.

    Returns:
        `kl`: nats per answer, summed over its positions and the whole vocabulary; `kl_per_token`; `tokens` and
        `distinct_2` of an answer; `ended`, `loops`: shares. Every model answers with the same random numbers.
    """
    seeds = [sampling_seed(seed, "drift", place) for place in range(len(prompts))]
    groups = policy.sampled(prompts, Decoding(max_new_tokens, temperature=1.0, seed=seed), seeds)
    kl = [score.kl for group in score_answers(policy, reference, groups) for score in group]
    ids = [group.completions[0].ids.tolist() for group in groups]
    stops = set(policy.template.stop_ids)
    written = [_repetition(one[:-1] if one and one[-1] in stops else one) for one in ids]
    tokens = sum(map(len, ids))
    return {
        "kl": asdict(mean_interval(kl)),
        "kl_per_token": sum(kl) / max(tokens, 1),
        "tokens": tokens / len(ids),
        "ended": sum(bool(one) and one[-1] in stops for one in ids) / len(ids),
        "distinct_2": sum(one["distinct_2"] for one in written) / len(ids),
        "loops": sum(one["loops"] for one in written) / len(ids),
    }


def changed(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Record:
    """How the likeliest answers differ from the reference's: share changed at all, and words kept in order.

    `words_kept` is the share of pairs of neighbouring words of the reference's answers that the policy's still have.
    """
    kept, total = 0, 0
    for old, new in zip(before, after, strict=True):
        pairs = list(pairwise(old["text"].lower().split()))
        there = set(pairwise(new["text"].lower().split()))
        kept, total = kept + sum(pair in there for pair in pairs), total + len(pairs)
    different = sum(old["text"] != new["text"] for old, new in zip(before, after, strict=True))
    return {"n": len(after), "different": different, "words_kept": kept / total if total else 1.0}


def _repetition(ids: Sequence[int]) -> dict[str, float]:
    return {"distinct_2": distinct_2(ids), "loops": float(loops(ids))}
