"""Drift: how far a model has moved from a pipeline's first model, as KL, margins and accuracies on fixed data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.config.pipeline import Pipeline, PlannedRun
from palate.config.run import RunConfig
from palate.data import load_records, open_source
from palate.data.prompts import load_prompts
from palate.errors import DataError
from palate.evaluation.accuracy.held_out import encode_pairs, held_out_pairs
from palate.evaluation.accuracy.preference import Accuracy, preference_accuracy
from palate.evaluation.subject import ModelSpec, RunSpec, Subject, read_run
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.loading.spec import starting_model
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

    def line(self) -> str:
        parts = [f"KL to the first model {self.kl.estimate:.2f} nats an answer"]
        if self.accuracy is not None:
            parts.append(f"held-out accuracy {100 * self.accuracy.policy.estimate:.1f} %")
            parts.append(f"margin {self.accuracy.margin.estimate:+.2f} nats")
        return ", ".join(parts)


def measure_drift(pipeline: Pipeline, planned: PlannedRun) -> Drift:
    """Compare a finished run with the pipeline's first model on fixed prompts and pairs, one model in memory at a time.

    The policy answers each prompt once, with its tools and the same random numbers every time.
    """
    first, settings = pipeline.runs[0].config, pipeline.drift
    pairs = _fixed_pairs(pipeline)
    prompts = _fixed_prompts(pipeline, pairs)[: settings.drift_samples]
    device = default_device()
    precision = resolve(first.precision, device)
    decoding = Decoding(settings.drift_max_new_tokens, temperature=1.0, seed=first.seed)
    seeds = [sampling_seed(first.seed, "drift", index) for index in range(len(prompts))]
    subject = Subject(read_run(planned.config.output_dir).policy, precision, device)
    messages, tools = [record.prompt for record in prompts], [record.tools for record in prompts]
    answers = subject.sampled(messages, decoding, seeds, tools=tools)
    groups = encode_pairs(list(pairs), subject.template, first.cutoff_len) if pairs else []
    after = subject.score([*answers, *groups])
    del subject
    give_back_memory()
    before = Subject(_start(first), precision, device).score([*answers, *groups])
    n = len(answers)
    kl = [new[0] - old[0] for (new, _), (old, _) in zip(after[:n], before[:n])]
    names = {pair.id: prompt_key(pair.prompt) for pair in pairs}
    prompts_of_pairs = [names[group.id] for group in groups]
    accuracy = preference_accuracy(before[n:], after[n:], prompts=prompts_of_pairs) if groups else None
    return Drift(cluster_mean_interval(kl, [prompt_key(prompt) for prompt in messages]), accuracy)


def _start(config: RunConfig) -> ModelSpec:
    return starting_model(config.resolved(), saved_in=config.output_dir)


def check_drift_prompts(pipeline: Pipeline) -> None:
    """Check before the first run that `drift_prompts` exists, although it is read after the run."""
    named = pipeline.drift.drift_prompts
    if named is not None and pipeline.drift.drift_samples:
        try:
            open_source(named, dataset_dir=pipeline.runs[0].config.dataset_dir)
        except DataError as error:
            raise DataError(f"drift_prompts: {error}") from error


def _fixed_pairs(pipeline: Pipeline) -> list[PreferencePair]:
    """The held-out pairs of the first dpo run whose dataset exists; [] if there is none."""
    for planned in pipeline.runs:
        config = planned.config
        if config.stage == "dpo" and (config.eval_dataset is not None or config.val_size):
            if planned.sampling is not None and not Path(str(config.dataset)).exists():
                continue
            start = _start(config)
            return held_out_pairs(RunSpec(Path(config.output_dir), config.resolved(), start, start))
    return []


def _fixed_prompts(pipeline: Pipeline, pairs: list[PreferencePair]) -> Sequence[Record]:
    """The prompts of `drift_prompts`; by default those of the pairs, else those of the first run's data."""
    first: RunConfig = pipeline.runs[0].config
    named = pipeline.drift.drift_prompts
    sampling = pipeline.runs[0].sampling
    if named is None and pairs:
        return pairs
    if named is None and sampling is None:
        loaded = load_records(first.dataset, kind=Record, dataset_dir=first.dataset_dir, columns=first.columns)
        return [record for record in loaded.records if record.prompt]
    source = named if named is not None or sampling is None else sampling.prompts
    return load_prompts(source or "", dataset_dir=first.dataset_dir)[0]
