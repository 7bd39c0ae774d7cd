"""A reward model from disk, as `stage: rm` saves it: a sequence-classification model with one output, or an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from palate.artifacts import read_json
from palate.config.stages.model import adapter_names, split_adapters
from palate.data.formats.rows import read_tools
from palate.errors import ModelError
from palate.models.load import load_model, load_tokenizer, resolve_name
from palate.models.precision import FP32, Precision, default_device
from palate.models.reward.head import give_pad_token
from palate.models.rotary import forget_lengths, length_rule
from palate.models.tuning.trainable import merge_adapter
from palate.models.tuning.vocabulary import add_tokens_of
from palate.models.upstream import quiet
from palate.records import Demonstration, Dropped, Message, Messages
from palate.text.encode import encode_record
from palate.text.template import Template, load_template

_BATCH = 16


class RewardModel:
    """Scores answers: a `records.RewardFunction`. Higher is better; a difference is in log-odds of being preferred.

    Args:
        folder: with config.json (or adapter_config.json, whose base is loaded too), safetensors and a tokenizer.
        template: chat template by name; the tokenizer's own where absent.
        cutoff_len: longest prompt + answer in tokens; a longer one loses the beginning of its prompt.

    Raises:
        ModelError: the folder holds no reward model.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: torch.device | None = None,
        precision: Precision = FP32,
        template: str | None = None,
        cutoff_len: int = 4096,
    ) -> None:
        self.name = str(folder)
        self._device = device or default_device()
        self._precision = precision
        self._cutoff_len = cutoff_len
        base = _base_of(folder)
        tokenizer = load_tokenizer(base or str(folder))
        if base is None:
            model = _load(str(folder))
        else:
            adapters = (*_merged_before(Path(folder)), str(folder))
            add_tokens_of(tokenizer, adapters)
            model = _load_adapted(adapters, base)
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._rule = length_rule(self._model.config)
        self._template: Template = load_template(tokenizer, template)
        if base is not None:  # whose own padding may end an answer
            give_pad_token(model, tokenizer, self._template.stop_ids)

    def __call__(
        self, prompts: Sequence[Messages], completions: Sequence[str], tools: Sequence[Any] | None = None
    ) -> list[float]:
        offered = tools or [None] * len(prompts)
        rows = [self._ids(*asked) for asked in zip(prompts, completions, map(read_tools, offered), strict=True)]
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        scores = [0.0] * len(rows)
        with torch.no_grad(), self._precision.context(self._device):
            for places in self._batches([len(row) for row in rows], order):
                for place, score in zip(places, self._forward([rows[place] for place in places])):
                    scores[place] = score
        return scores

    def _batches(self, lengths: Sequence[int], order: Sequence[int]) -> list[list[int]]:
        """Rows that may share a batch: for most models any, else those whose rotary positions are the same."""
        batches: list[list[int]] = []
        angles = [0 if self._rule is None else self._rule.angles(length) for length in lengths]
        for place in order:
            last = batches[-1] if batches else []
            if last and angles[last[0]] == angles[place] and len(last) < _BATCH:
                last.append(place)
            else:
                batches.append([place])
        return batches

    def _ids(self, prompt: Messages, completion: str, tools: str | None) -> np.ndarray:
        """The conversation up to the end of the answer's turn, where the score is read."""
        answered = (Message("assistant", completion),)
        record = Demonstration(id=self.name, prompt=prompt, completion=answered, tools=tools)
        group = encode_record(record, self._template)
        if isinstance(group, Dropped):
            raise ModelError(f"{self.name}: an answer cannot be scored: {group.reason} ({group.detail})")
        answer = group.completions[0]
        end = int(np.flatnonzero(answer.trained)[-1]) + 1
        return np.concatenate([group.prompt_ids, answer.ids[:end]])[-self._cutoff_len :]

    def _forward(self, rows: Sequence[np.ndarray]) -> list[float]:
        width = max(map(len, rows))
        pad = self._model.config.pad_token_id
        ids = torch.full((len(rows), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.from_numpy(row.astype(np.int64))
            mask[place, : len(row)] = 1
        if self._rule is not None:
            forget_lengths(self._model)
        logits = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).logits
        return [float(value) for value in logits[:, 0].float().tolist()]


def _load(folder: str) -> Any:
    place = resolve_name(folder)
    try:
        config = AutoConfig.from_pretrained(place)
        # `classifier` heads of encoder families would read another place than the end of the answer.
        if not any("SequenceClassification" in name for name in config.architectures or ()) or config.num_labels != 1:
            raise ModelError(f"{folder}: not a reward model (one output for a whole answer); train one with stage: rm")
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(place, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: the reward model could not be loaded: {str(error).splitlines()[0]}") from error
    if model.config.pad_token_id is None:
        raise ModelError(f"{folder}: config.json has no pad_token_id, so the end of an answer cannot be found")
    return model


def _base_of(folder: str | Path) -> str | None:
    """The model that the adapter in the folder names; None where it holds no adapter."""
    path = Path(folder) / "adapter_config.json"
    if not path.is_file():
        return None
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("task_type") != "SEQ_CLS" or not facts.get("base_model_name_or_path"):
        raise ModelError(f"{folder}: its adapter is not a reward model's; train one with stage: rm")
    return str(facts["base_model_name_or_path"])


def _merged_before(folder: Path) -> tuple[str, ...]:
    """The adapters that were merged into the base before this one was trained, by the run.json of its run."""
    for path in (folder / "run.json", folder.parent / "run.json"):
        config = read_json(path).get("config") if path.is_file() else None
        if isinstance(config, dict):
            adapters = adapter_names(config.get("adapter_name_or_path"))
            return split_adapters(adapters, "lora", create_new_adapter=bool(config.get("create_new_adapter")))[0]
    return ()


def _load_adapted(adapters: Sequence[str], base: str) -> Any:
    model: Any = load_model(base, device=torch.device("cpu"), head="reward")
    for adapter in adapters:
        model = merge_adapter(model, adapter, task="SEQ_CLS")
    return model
