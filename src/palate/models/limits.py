"""What a model cannot take at all: positions and token ids for which it has no weights."""

from __future__ import annotations

import re
from typing import Any

from palate.models.rotary import rope_parameters

_POSITIONS = re.compile(r"(wpe|position|pos_enc|pos_emb)")
# OPT's table has two rows more than positions, others are padded a little.
_SPARE = 8


def position_limit(model: Any) -> int | None:
    """Tokens of the longest sequence that a table of positions covers (GPT-2, OPT, GPT-J …); None without a table."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or any(True for _ in rope_parameters(config)):
        return None
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dim() == 2 and limit <= tensor.shape[0] <= limit + _SPARE and _POSITIONS.search(name):
            return limit
    return None


def trained_length(model: Any) -> int | None:
    """Tokens of the longest sequence that the config was made for; None where it names none."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def token_rows(model: Any) -> int:
    """How many token ids the model can read and, with a language model's head, score."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    head = model.get_output_embeddings()
    return rows if head is None or not hasattr(head, "out_features") else min(rows, int(head.out_features))
