"""A reward model from disk, as `stage: rm` saves it: a sequence-classification model with one output, or an adapter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedTokenizerBase

from palate.artifacts import read_json
from palate.config.stages.model import merged_adapters
from palate.data.formats.rows import read_tools
from palate.data.scores import rule_score
from palate.errors import ConfigError, ModelError
from palate.models.cpu.allocator import keep_freed_memory
from palate.models.loading.load import load_frozen, load_tokenizer
from palate.models.loading.resolve import resolve_name
from palate.models.precision import FP32, Precision, default_device
from palate.models.probe.limits import check_sequences, rows_of, token_rows, trained_length
from palate.models.scoring.rewards import end_index
from palate.models.tuning.vocabulary import add_tokens_of
from palate.records import Demonstration, Dropped, Message, Messages, RewardFunction
from palate.text.batch import Batch, score_completions
from palate.text.encode import encode_record
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.text.template import Template, load_template


class RewardModel:
    """Scores answers: a `records.RewardFunction`. Higher is better; a difference is in log-odds of being preferred.

    Args:
        folder: with config.json (or adapter_config.json, whose base is loaded too), safetensors and a tokenizer.
        template: makes the chat template of the tokenizer; the tokenizer's own by default.
        cutoff_len: longest prompt + answer in tokens; a longer one loses the beginning of its prompt.
        origin: `revision` and `trust_remote_code`, as for `models.loading.load.load_model`.

    Attributes:
        template: its chat template and tokenizer.
        identity: content hash of its weights, with adapters merged.

    Raises:
        ModelError: the folder holds no reward model.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: torch.device | None = None,
        precision: Precision = FP32,
        template: Callable[[PreTrainedTokenizerBase], Template] = load_template,
        cutoff_len: int = 4096,
        **origin: Any,
    ) -> None:
        self._name = str(folder)
        self._device = device or default_device()
        self._precision = precision
        self._cutoff_len = cutoff_len
        keep_freed_memory()
        base = _base_of(folder)
        adapters = () if base is None else (*_merged_before(Path(folder)), self._name)
        if base is None:
            _check(self._name, **origin)
        tokenizer = load_tokenizer(base or self._name, **origin)
        add_tokens_of(tokenizer, adapters)
        loaded = load_frozen(base or self._name, precision, self._device, adapters=adapters, head="reward", **origin)
        self._model, self._packed = loaded.model, loaded.probe.packed
        self.identity: str | None = loaded.identity
        self.template = template(tokenizer)

    def __call__(
        self, prompts: Sequence[Messages], completions: Sequence[str], tools: Sequence[Any] | None = None
    ) -> list[float]:
        offered = tools or [None] * len(prompts)
        asked = zip(prompts, completions, map(read_tools, offered), strict=True)
        return [reward for [reward] in self.score([self._group(*one) for one in asked])]

    def score(
        self, groups: Sequence[EncodedGroup], advance: Callable[[int], None] = lambda _: None
    ) -> list[list[float]]:
        """Per group the rewards of its completions; `advance` is called with the number of groups of each batch."""
        check_sequences(self._model, rows_of(groups))

        def rewards(batch: Batch) -> list[float]:
            found: list[float] = self._model(**batch.model_inputs(), end_index=end_index(batch)).rewards.tolist()
            return found

        with torch.no_grad(), self._precision.context(self._device):
            return score_completions(groups, rewards, packed=self._packed, device=self._device, advance=advance)

    @property
    def trained_length(self) -> int | None:
        """The longest sequence, in tokens, according to the model's config; None if it names none."""
        return trained_length(self._model)

    def _group(self, prompt: Messages, completion: str, tools: str | None) -> EncodedGroup:
        """The conversation up to the end of the answer's turn, where the reward is read."""
        answered = (Message("assistant", completion),)
        record = Demonstration(id=self._name, prompt=prompt, completion=answered, tools=tools)
        group = encode_record(record, self.template)
        if isinstance(group, Dropped):
            raise ModelError(f"{self._name}: an answer cannot be scored: {group.reason} ({group.detail})")
        answer = group.completions[0]
        end = int(np.flatnonzero(answer.trained)[-1]) + 1
        start = max(0, end - self._cutoff_len)
        cut = max(0, len(group.prompt_ids) + end - self._cutoff_len)
        completion_ids = EncodedCompletion(answer.ids[start:end], answer.trained[start:end])
        return EncodedGroup(group.id, group.prompt_ids[cut:], (completion_ids,))


def load_reward(spec: str, key: str, *, precision: Precision = FP32) -> RewardFunction:
    """The reward that a text names; `key` is the config key or option, for messages.

    Raises:
        ConfigError: it is no rule, function or folder.
        ModelError: a folder holds no reward model.
    """
    if Path(spec).is_dir():
        return RewardModel(spec, precision=precision)
    score = rule_score(spec, key)
    if score is None:
        raise ConfigError(
            f"{key}: {spec} is not a rule, a function or a folder; write length:shorter, lexicon:FILE, "
            "module:function, file.py:function or a reward model's folder"
        )
    return score


def give_pad_token(model: Any, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> None:
    """Let model and tokenizer pad with a token that ends no answer.

    transformers reads the score at the last token that is not padding. If the padding token is the end-of-turn token,
    as in many chat models, that would be the token before the trained one.
    """
    pad_id: int | None = tokenizer.pad_token_id
    rows = token_rows(model)  # a tokenizer may have tokens that the embedding lacks
    if pad_id is None or pad_id in ends or pad_id >= rows:
        special = [token for token in tokenizer.all_special_ids if token not in ends and token < rows]
        pad_id = special[0] if special else max(set(range(min(rows, len(tokenizer)))) - set(ends))
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = pad_id


def _check(folder: str, **origin: Any) -> None:
    """Refuse a model that has more than one output, or none for a whole answer."""
    try:
        config = AutoConfig.from_pretrained(resolve_name(folder), **origin)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: the reward model could not be loaded: {str(error).splitlines()[0]}") from error
    if not any("SequenceClassification" in name for name in config.architectures or ()) or config.num_labels != 1:
        raise ModelError(f"{folder}: not a reward model (one output for a whole answer); train one with stage: rm")


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
            return merged_adapters(config)
    return ()
