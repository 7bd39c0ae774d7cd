"""Where a model comes from: its files, adapters, tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from palate.artifacts import read_json
from palate.config.stages.model import adapter_names
from palate.errors import ModelError
from palate.models.loading.load import load_tokenizer
from palate.models.loading.resolve import resolve_name
from palate.models.tuning.vocabulary import add_tokens_of
from palate.text.template import Template, load_template, thinking


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where a model comes from.

    Attributes:
        name: for tables.
        model: folder, hub id or built-in name.
        adapters: adapter folders that are merged into it, in order.
        template: chat template by name; None for the tokenizer's own.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: whether code that comes with the model may run.
        tokens_of: folders whose tokenizers have tokens that were added in training, as those of `adapters` may.
        enable_thinking: given to the chat template; None for the template's own default.
    """

    name: str
    model: str
    adapters: tuple[str, ...] = ()
    template: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    tokens_of: tuple[str, ...] = ()
    enable_thinking: bool | None = None

    def chat_template(self, tokenizer: PreTrainedTokenizerBase) -> Template:
        """The chat template of the model's prompts and answers; without a name, that saved with the last adapter."""
        own = _saved_template(Path(self.adapters[-1])) if self.template is None and self.adapters else None
        if own is not None:
            tokenizer.chat_template = own
        return load_template(tokenizer, self.template, variables=thinking(self.enable_thinking))

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, with the tokens that were added in training."""
        tokenizer = load_tokenizer(self.model, **self.origin)
        add_tokens_of(tokenizer, (*self.adapters, *self.tokens_of))
        return tokenizer

    @property
    def origin(self) -> dict[str, Any]:
        """Further arguments of `models.loading.load.load_model` and `load_tokenizer`."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


def _saved_template(folder: Path) -> str | None:
    """The chat template in a folder's tokenizer files; None without one."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    return config.get("chat_template") if isinstance(config.get("chat_template"), str) else None


def adapter_spec(folder: Path, *, template: str | None = None) -> ModelSpec:
    """The model of an adapter folder: its base is that of adapter_config.json.

    Raises:
        ModelError: no base is named, or it is a folder that is not here.
    """
    config = read_json(folder / "adapter_config.json")
    base = str(config.get("base_model_name_or_path") or "")
    remedy = "name its run directory, or write where the base is into adapter_config.json (base_model_name_or_path)"
    if not base:
        raise ModelError(f"{folder}: its adapter_config.json names no base model; {remedy}")
    try:
        resolve_name(base)
    except ModelError as error:
        raise ModelError(f"{folder}: the adapter's base model is not here: {error}; {remedy}") from error
    return ModelSpec(folder.resolve().name, base, (str(folder),), template, config.get("revision"))


def starting_model(config: Mapping[str, Any], *, name: str = "start", saved_in: str | Path | None = None) -> ModelSpec:
    """The model that a run starts from.

    Args:
        saved_in: a folder with the run's tokenizer, for the tokens that the run adds.
    """
    adds_tokens = config.get("add_tokens") or config.get("add_special_tokens")
    return ModelSpec(
        name,
        config["model_name_or_path"],
        adapter_names(config.get("adapter_name_or_path")),
        config.get("template"),
        config.get("model_revision"),
        bool(config.get("trust_remote_code")),
        (str(saved_in),) if adds_tokens and saved_in is not None else (),
        config.get("enable_thinking"),
    )
