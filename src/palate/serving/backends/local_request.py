"""What a request asks of a model in this process; a parameter that it does not obey is refused."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palate.models.generation.decoding import Decoding, sampling_seed
from palate.serving.api.call import ChatParameters, TextParameters, read_parameters, refuse_unknown
from palate.serving.backends.base import Endpoint
from palate.serving.problems import ApiError, invalid
from palate.text.template import Template

_HARMLESS = frozenset(
    {
        *("metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("parallel_tool_calls", "prediction", "verbosity"),
    }
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "functions": ([],),
    "function_call": ("auto", "none"),
    "modalities": (["text"],),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
"""Parameters that are obeyed only with these values."""


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """Answers to write.

    Attributes:
        chat: whether the answers are turns of a conversation.
        prompts: token ids of each prompt.
        n: answers to each prompt.
        decoding: settings of all answers; `seed` is that of the first.
        stops: texts that end an answer.
        logprobs: likeliest tokens reported for each token; None for no log-probabilities at all.
    """

    chat: bool
    prompts: Sequence[Sequence[int]]
    n: int
    decoding: Decoding
    stops: tuple[str, ...]
    logprobs: int | None

    def rows(self) -> list[tuple[Sequence[int], int]]:
        """Prompt and seed of each answer, in the order of their index."""
        seed = self.decoding.seed
        prompts = [prompt for prompt in self.prompts for _ in range(self.n)]
        return [(prompt, sampling_seed(seed, index) if index else seed) for index, prompt in enumerate(prompts)]


def read_request(
    endpoint: Endpoint, body: dict[str, Any], template: Template, *, max_tokens: int, context: int | None
) -> LocalRequest:
    """The answers that a request asks for.

    Args:
        template: of the model.
        max_tokens: longest answer of this server.
        context: tokens that the model was trained to read; None if it does not say.

    Raises:
        ApiError: a parameter is not obeyed, or the prompt is too long.
        DataError: the chat template refuses the conversation.
    """
    kind = ChatParameters if endpoint == "chat/completions" else TextParameters
    asked = read_parameters(kind, body)
    refuse_unknown(asked, _NEUTRAL, _HARMLESS)
    if isinstance(asked, ChatParameters):
        tools = json.dumps(asked.tools) if asked.tools and body.get("tool_choice") != "none" else None
        prompts = [template.generation_prompt(asked.turns(), tools=tools)]
        logprobs = asked.top_logprobs if asked.logprobs else None
        limit = asked.max_completion_tokens or asked.max_tokens
        if asked.top_logprobs and not asked.logprobs:
            raise invalid("top_logprobs needs logprobs: true", "top_logprobs")
    else:
        assert isinstance(asked, TextParameters)
        prompts = [_text_ids(prompt, template) for prompt in asked.prompts]
        logprobs, limit = asked.logprobs, asked.max_tokens or 16  # as the OpenAI API
    if not prompts or not all(prompts):
        raise invalid("prompt: has no tokens that an answer could follow", "prompt")
    decoding = Decoding(
        _length(max(map(len, prompts)), limit, max_tokens, context),
        asked.temperature,
        asked.top_p,
        secrets.randbits(48) if asked.seed is None else asked.seed % 2**63,
    )
    return LocalRequest(kind is ChatParameters, prompts, asked.n, decoding, tuple(asked.stops), logprobs)


def _text_ids(prompt: str | list[int], template: Template) -> list[int]:
    return template.token_ids(template.plain_start + prompt) if isinstance(prompt, str) else prompt


def _length(prompt: int, asked: int | None, most: int, context: int | None) -> int:
    """Tokens of the longest answer; raises ApiError if they do not fit."""
    if asked is not None and asked > most:
        raise invalid(f"max_tokens: at most {most} on this server", "max_tokens")
    available = most if context is None else context - prompt
    if available < (asked or 1):
        more = f" and {asked} new ones" if asked else ""
        message = f"the prompt has {prompt} tokens{more}, and the model was trained on at most {context}"
        raise ApiError(400, message, param="messages", code="context_length_exceeded")
    return asked or min(most, available)


def text_of(template: Template, ids: Sequence[int]) -> str:
    """The text of ids that are no turn of a conversation, up to a stop token."""
    kept = next((ids[:end] for end, token in enumerate(ids) if token in template.stop_ids), ids)
    text: str = template.tokenizer.decode(list(kept), skip_special_tokens=True)
    return text
