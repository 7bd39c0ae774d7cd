"""New tokens: a tokenizer gains them, and a model gains an embedding row for each."""

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
from palate.models.save import quiet
from palate.models.tuning.module_names import check_module_names

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


def add_tokens(tokenizer: PreTrainedTokenizerBase, plain: Sequence[str], special: Sequence[str]) -> list[str]:
    """Give the tokenizer new tokens, and return lines about them.

    Args:
        plain: tokens of ordinary text; decoding shows them.
        special: tokens of markup; decoding leaves them out.
    """
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


def add_tokens_of(tokenizer: PreTrainedTokenizerBase, folders: Sequence[str]) -> int:
    """Give the tokenizer the tokens that the tokenizers in these folders have beyond it; returns how many.

    An adapter that was trained with new tokens is saved with the tokenizer that has them.

    Raises:
        ModelError: the folders disagree about the id of a token.
    """
    before = len(tokenizer)
    for folder in folders:
        if not (Path(folder) / "tokenizer.json").is_file():
            continue
        with quiet():
            other = AutoTokenizer.from_pretrained(folder)
        new = {place: token for place, token in other.added_tokens_decoder.items() if place >= len(tokenizer)}
        for place in sorted(new):
            tokenizer.add_tokens([new[place]], special_tokens=new[place].special)
            if tokenizer.convert_tokens_to_ids(new[place].content) != place:
                raise ModelError(
                    f"{folder}: its token {new[place].content} has the id {place}, which is not the next one of the "
                    f"model's tokenizer ({len(tokenizer)} tokens); the adapter was trained on another model"
                )
    return len(tokenizer) - before


def embedding_rows(model: Any) -> int:
    """How many tokens the model has an embedding for."""
    return int(model.get_input_embeddings().weight.shape[0])


def enlarge_embedding(model: Any, rows: int) -> int:
    """Give the embedding and the LM head at least `rows` rows, and return how many are new.

    Each new row is the mean of the old ones, so no new token is more probable than an average one, and the same model
    enlarged twice is the same model.
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
    """How many rows the embedding has that is saved with an adapter; 0 where none is."""
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        rows = [
            file.get_slice(name).get_shape()[0]
            for name in file.keys()  # noqa: SIM118  (not a mapping)
            if name.endswith(_EMBEDDINGS)
        ]
    return max(rows, default=0)


def whole_modules(model: nn.Module, names: Sequence[str], lora_target: str | Sequence[str]) -> list[str]:
    """The names as PEFT takes them for modules that train as a whole beside the LoRA matrices.

    PEFT matches the end of a module's path, whatever stands before it, so a name that would match more than is meant
    is written as a path.

    Raises:
        ConfigError: no module has such a name, or LoRA trains it already.
    """
    check_module_names(model, "additional_target", names)
    paths = [path for path, _ in model.named_modules(remove_duplicate=False)]
    found: list[str] = []
    for name in names:
        own = [path for path in paths if path == name or path.endswith(f".{name}")]
        if lora_target != "all" and name in lora_target:
            raise ConfigError(f"{name} is in lora_target and in additional_target; keep one of them")
        found += [name] if len(own) == sum(path.endswith(name) for path in paths) else own
    return found
