"""A reward model from disk: a sequence-classification model with one output, as `stage: rm` saves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from palate.errors import ModelError
from palate.models.load import load_tokenizer, resolve_name
from palate.models.precision import FP32, Precision, default_device
from palate.models.save import quiet
from palate.records import Demonstration, Dropped, Message, Messages
from palate.text.encode import encode_record
from palate.text.template import Template, load_template

_BATCH = 16


class RewardModel:
    """Scores answers: a `records.RewardFunction`. Higher is better; a difference is in log-odds of being preferred.

    Args:
        folder: with config.json, safetensors and a tokenizer.
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
        self._model = _load(str(folder)).to(self._device).eval().requires_grad_(False)
        self._template: Template = load_template(load_tokenizer(str(folder)), template)

    def __call__(self, prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
        rows = [self._ids(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        scores = [0.0] * len(rows)
        with torch.no_grad(), self._precision.context(self._device):
            for start in range(0, len(order), _BATCH):
                places = order[start : start + _BATCH]
                for place, score in zip(places, self._forward([rows[place] for place in places])):
                    scores[place] = score
        return scores

    def _ids(self, prompt: Messages, completion: str) -> np.ndarray:
        """The conversation up to the end of the answer's turn, where the score is read."""
        record = Demonstration(id=self.name, prompt=prompt, completion=(Message("assistant", completion),))
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
