"""Models to evaluate: a model folder, a hub id, or a run with its reference. A loaded one scores and generates."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from palate.artifacts import SEAL, RunDir
from palate.config.stages.model import merged_adapters
from palate.errors import ArtifactError
from palate.models.cpu.allocator import keep_freed_memory
from palate.models.generation.decoding import Decoding
from palate.models.generation.local.generate import generate
from palate.models.generation.local.stream import stream
from palate.models.loading.load import load_frozen
from palate.models.loading.spec import ModelSpec as ModelSpec
from palate.models.loading.spec import adapter_spec, starting_model
from palate.models.precision import Precision
from palate.models.probe.limits import check_sequences, rows_of
from palate.models.scoring.logps import Logps, per_completion
from palate.progress import progress
from palate.records import Answer, Messages
from palate.text.batch import Batch, score_completions
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.text.template import Template

_CHECKPOINT = re.compile(r"checkpoint-\d+\Z")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A finished run: its trained policy, its reference, and its config.

    Attributes:
        path: the run directory.
        config: the resolved config in run.json.
        policy: the trained model.
        reference: the model it started from, or its separate `ref_model`.
    """

    path: Path
    config: dict[str, Any]
    policy: ModelSpec
    reference: ModelSpec


def read_run(path: str | Path) -> RunSpec:
    """Read a completed run.

    Raises:
        ArtifactError: the path is not a run, or the run has not completed.
    """
    folder = RunDir.open(path)
    facts = folder.read()
    if facts.get("status") != "completed" and "checkpoint" not in facts:  # a version may be a stopped run's checkpoint
        status = facts.get("status", "of unknown status")
        raise ArtifactError(f"{path}: the run is {status}, only a completed one has a model")
    return _run_spec(Path(path), facts["config"], Path(path), Path(path).resolve().name)


def read_checkpoint(path: str | Path) -> RunSpec:
    """Read a checkpoint as the policy of its run; the run need not have completed.

    Raises:
        ArtifactError: the checkpoint was not finished, or its run cannot be read.
    """
    folder = Path(path)
    if not (folder / SEAL).is_file():
        raise ArtifactError(f"{path}: {SEAL} is missing: the checkpoint was not finished; name another one")
    config = RunDir.open(folder.parent).read().get("config")
    if not isinstance(config, dict):
        raise ArtifactError(f"{folder.parent}: run.json has no config, so the checkpoint's model is not known")
    resolved = folder.resolve()
    return _run_spec(folder.parent, config, folder, f"{resolved.parent.name}/{resolved.name}")


def _run_spec(run: Path, config: dict[str, Any], files: Path, name: str) -> RunSpec:
    """The specs of a run that was trained with `config` and saved its model in `files`."""
    base = starting_model(config, name="reference", saved_in=files)
    if (files / "adapter_config.json").exists():
        # A continued adapter is saved complete, so it replaces the earlier one; adapters that were merged stay.
        policy = replace(base, name=name, adapters=(*merged_adapters(config), str(files)))
    else:
        policy = replace(base, name=name, model=str(files), adapters=(), revision=None, tokens_of=())
    separate = config.get("ref_model")
    reference = replace(base, model=separate, adapters=(), revision=None) if separate else base
    return RunSpec(run, config, policy, reference)


def is_run(path: str | Path) -> bool:
    return (Path(path) / "run.json").is_file()


def is_checkpoint(path: str | Path) -> bool:
    """Whether the folder is a `checkpoint-N` in a run directory."""
    return bool(_CHECKPOINT.match(Path(path).resolve().name)) and is_run(Path(path).resolve().parent)


def find_run(name: str | Path) -> RunSpec | None:
    """The run or checkpoint with that path; None if it is neither.

    Raises:
        ArtifactError: the run has not completed, or the checkpoint was not finished.
    """
    if is_run(name):
        return read_run(name)
    return read_checkpoint(name) if is_checkpoint(name) else None


def model_spec(name: str, *, template: str | None = None) -> ModelSpec:
    """The spec of a model by name: a run, a checkpoint, a model or adapter folder, a hub id or a built-in model.

    Raises:
        ModelError: an adapter's base is not known, or not here.
    """
    path = Path(name)
    run = find_run(path)
    if run is not None:
        return run.policy
    if (path / "adapter_config.json").exists():
        return adapter_spec(path, template=template)
    return ModelSpec(path.name if path.exists() else name, name, (), template)


def check_models(specs: Iterable[ModelSpec]) -> None:
    """Read the tokenizer and the template of each model, before weights are loaded and minutes are computed.

    Raises:
        ModelError: a folder has no model or no tokenizer.
        ConfigError: it has no chat template.
    """
    for spec in dict.fromkeys(specs):
        spec.chat_template(spec.tokenizer())


def answer_group(number: int, prompt: Sequence[int], *answers: Sequence[int]) -> EncodedGroup:
    """A prompt with answers as a group that can be scored: token ids, of which all of the answers count."""
    completions = [
        EncodedCompletion(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.bool_)) for ids in answers
    ]
    return EncodedGroup(str(number), np.array(prompt, dtype=np.int32), tuple(completions))


class Subject:
    """A loaded model that scores and generates answers.

    Attributes:
        spec: source of the model.
        name: name in tables.
        identity: content hash of its weights, with adapters merged.
        template: its chat template and tokenizer.
        packed: True if it supports packed batches, False if it needs padded ones.
        precision, device: precision and device of its forward passes.
    """

    def __init__(self, spec: ModelSpec, precision: Precision, device: torch.device) -> None:
        self.spec = spec
        self.precision = precision
        self.device = device
        keep_freed_memory()
        tokenizer = spec.tokenizer()
        tokens = len(tokenizer) if spec.adapters or spec.tokens_of else 0
        loaded = load_frozen(spec.model, precision, device, adapters=spec.adapters, tokens=tokens, **spec.origin)
        self.name = spec.name
        self.identity: str | None = loaded.identity
        self.packed = loaded.probe.packed
        self.model: nn.Module = loaded.model
        self.template: Template = spec.chat_template(tokenizer)
        self._streaming = threading.Lock()

    def score(self, groups: Sequence[EncodedGroup]) -> list[tuple[list[float], list[int]]]:
        """For each group, Σ log π and the number of trained tokens of its completions."""
        check_sequences(self.model, rows_of(groups))

        def score(batch: Batch) -> list[tuple[float, int]]:
            logps: Logps = per_completion(self.model(**batch.model_inputs()), batch)
            return [(total, int(count)) for total, count in zip(logps.sums.tolist(), logps.tokens.tolist())]

        scoring = progress(f"scoring with {self.name}", len(groups), delay=1.0)
        with torch.no_grad(), self.precision.context(self.device), scoring as scored:
            found = score_completions(groups, score, packed=self.packed, device=self.device, advance=scored.advance)
        return [([total for total, _ in scores], [count for _, count in scores]) for scores in found]

    def sampled(
        self,
        prompts: Sequence[Messages],
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        tools: Sequence[str | None] | None = None,
    ) -> list[EncodedGroup]:
        """Prompts with one sampled answer each, as groups that can be scored.

        Args:
            seeds: one for each prompt.
            tools: the tools of each prompt, as in `Record`.
        """
        prompt_ids = self._prompt_ids(prompts, tools)
        answers = generate(
            self.model, prompt_ids, decoding, stop_ids=self.template.stop_ids, precision=self.precision, seeds=seeds
        )
        return [answer_group(index, *pair) for index, pair in enumerate(zip(prompt_ids, answers))]

    def _prompt_ids(self, prompts: Sequence[Messages], tools: Sequence[str | None] | None) -> list[list[int]]:
        """The token ids of each prompt, up to the start of the answer."""
        specs = tools or [None] * len(prompts)
        return [
            self.template.generation_prompt(prompt, tools=spec) for prompt, spec in zip(prompts, specs, strict=True)
        ]

    def answers(
        self,
        prompts: Sequence[Messages],
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        *,
        tools: Sequence[str | None] | None = None,
    ) -> list[Answer]:
        """One answer per conversation; with `seeds`, each is sampled with its own seed."""
        ids = generate(
            self.model,
            self._prompt_ids(prompts, tools),
            decoding,
            stop_ids=self.template.stop_ids,
            precision=self.precision,
            seeds=seeds,
        )
        return [self.template.answer(answer) for answer in ids]

    def stream(
        self,
        prompt: Messages,
        decoding: Decoding,
        seed: int,
        on_text: Callable[[str], None],
        *,
        tools: str | None = None,
    ) -> Answer:
        """The answer to one conversation; `on_text` gets each new piece of its text.

        Answers of one model are generated one after the other: a second thread waits.
        """
        with self._streaming:
            return stream(
                self.model, self.template, prompt, decoding, seed, on_text, precision=self.precision, tools=tools
            )
