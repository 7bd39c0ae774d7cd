"""New tokens: added to the tokenizer, with an embedding row for each in the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import AddedToken
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from palate.errors import ConfigError, ModelError
from palate.models.tuning.module_names import check_module_names, names_module
from palate.models.upstream import quiet

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


def add_tokens(tokenizer: PreTrainedTokenizerBase, plain: Sequence[str], special: Sequence[str]) -> list[str]:
    """Add tokens of ordinary text, and special ones, which decoding omits; returns notices about them."""
    lines = []
    for kind, tokens in (("tokens", plain), ("special tokens", special)):
        known = [token for token in tokens if token in tokenizer.get_vocab()]
        new = [AddedToken(token, special=tokens is special, normalized=False) for token in tokens if token not in known]
        added = tokenizer.add_tokens(new, special_tokens=tokens is special)
        if added:
            lines.append(f"{added} new {kind}: {', '.join(str(token) for token in tokens if token not in known)}")
        if known:
            lines.append(f"{', '.join(known)}: in the vocabulary already, not added again")
    return lines


def add_tokens_of(tokenizer: PreTrainedTokenizerBase, folders: Sequence[str]) -> None:
    """Add the extra tokens of the tokenizers in these folders: an adapter with new tokens is saved with its tokenizer.

    Raises:
        ModelError: the folders disagree about the id of a token.
    """
    for folder in folders:
        if not (Path(folder) / "tokenizer.json").is_file():
            continue
        with quiet():
            other = AutoTokenizer.from_pretrained(folder)
        new = [(number, token) for number, token in other.added_tokens_decoder.items() if number >= len(tokenizer)]
        for number, token in sorted(new, key=lambda item: item[0]):
            tokenizer.add_tokens([token], special_tokens=token.special)
            if tokenizer.convert_tokens_to_ids(token.content) != number:
                raise ModelError(
                    f"{folder}: its token {token.content} has the id {number}, which is not the next one of the "
                    f"model's tokenizer ({len(tokenizer)} tokens); the adapter was trained on another model"
                )


def embedding_rows(model: Any) -> int:
    """Number of rows of the input embedding."""
    return int(model.get_input_embeddings().weight.shape[0])


def enlarge_embedding(model: Any, rows: int) -> int:
    """Give the embedding and the LM head at least `rows` rows, and return how many are new.

    Each new row is the mean of the old ones, so a new token is as probable as an average one, and the result does not
    depend on chance.
    """
    before = embedding_rows(model)
    if rows <= before:
        return 0
    with quiet():
        model.resize_token_embeddings(rows, mean_resizing=False)
    head = model.get_output_embeddings()
    enlarged = [model.get_input_embeddings().weight]
    if head is not None:
        enlarged += [one for one in (head.weight, getattr(head, "bias", None)) if one is not None]
    with torch.no_grad():
        for weight in {id(one): one for one in enlarged}.values():
            weight[before:] = weight[:before].float().mean(0).to(weight.dtype)
    model.enlarged_vocabulary = True
    return rows - before


def embedding_modules(model: Any) -> list[str]:
    """The last parts of the names of the embedding and of the LM head, such as `embed_tokens` and `lm_head`."""
    wanted = [one for one in (model.get_input_embeddings(), model.get_output_embeddings()) if one is not None]
    return [name.rpartition(".")[2] for name, module in model.named_modules() if any(module is one for one in wanted)]


def adapter_rows(folder: Path) -> int:
    """Rows of the embedding that is saved with an adapter; 0 without one."""
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        rows = [
            file.get_slice(name).get_shape()[0]
            for name in file.keys()  # noqa: SIM118  (not a mapping)
            if name.endswith(_EMBEDDINGS)
        ]
    return max(rows, default=0)


def whole_modules(model: nn.Module, names: Sequence[str], lora_target: str | Sequence[str]) -> list[str]:
    """The names as PEFT takes them for `modules_to_save`.

    PEFT matches any end of a module's path, also within a name, so a name that would match too much becomes a path.

    Raises:
        ConfigError: no module has such a name, or LoRA trains it already.
    """
    check_module_names(model, "additional_target", names)
    paths = [path for path, _ in model.named_modules(remove_duplicate=False)]
    found: list[str] = []
    for name in names:
        own = [path for path in paths if names_module(name, path)]
        if lora_target != "all" and name in lora_target:
            raise ConfigError(f"{name} is in lora_target and in additional_target; keep one of them")
        found += [name] if len(own) == sum(path.endswith(name) for path in paths) else own
    return found
