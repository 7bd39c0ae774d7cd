"""A chat template with its tokenizer: conversations to text, text to token ids, and ids back to text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from palate.errors import ConfigError, DataError, ModelError
from palate.records import Answer, Message, Messages
from palate.text.named import NamedTemplate, find_template
from palate.text.turn_form import REFUSALS, TurnForm, find_turn_form

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

_DATE = "strftime_now"


@dataclass(frozen=True)
class Template:
    """A tokenizer with the chat template that it renders.

    Attributes:
        tokenizer: a fast tokenizer; its `chat_template` is rendered.
        name: a name of `text.named`, or `tokenizer` for the tokenizer's own.
        variables: further variables of the chat template (`enable_thinking`, `date_string` …).
        notices: lines to print once, for example about markup that is plain text to this tokenizer.

    Text is tokenised without adding special tokens: the template writes the BOS, as it does in transformers'
    `apply_chat_template`.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str = "tokenizer"
    variables: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def render(self, messages: Messages, *, tools: str | None = None, generation: bool = False) -> str:
        """The conversation as text; with `generation`, up to where the assistant's next answer begins.

        Raises:
            DataError: the chat template refuses the conversation (roles out of order, an unknown role), or `tools` is
                not a JSON list.
        """
        listed = _parse_tools(tools)
        turns = [
            {"role": message.role, "content": message.content} if message.is_plain else self._turn_form.write(message)
            for message in messages
        ]
        try:
            return self._rendered(turns, listed, generation)
        except REFUSALS as error:
            remedy = self._remedy(turns, listed, generation)
            words = " ".join(str(error).split())
            raise DataError(f"the chat template refuses the conversation: {words}{remedy}") from error

    def _remedy(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None, generation: bool) -> str:
        """What to do about a refused conversation; "" if it is refused without its system turn as well."""
        if len(turns) < 2 or turns[0]["role"] != "system":
            return ""
        try:
            self._rendered(turns[1:], tools, generation)
        except REFUSALS:
            return ""
        return (
            "; it has no system turn: write the system text into the first user turn, or name a template that has one"
        )

    def _rendered(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None, generation: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            list(turns),
            tools=list(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=generation,
            **self.variables,
        )
        return text

    @cached_property
    def _turn_form(self) -> TurnForm:
        return find_turn_form(str(self.tokenizer.chat_template), lambda turns: self._rendered(turns, None, False))

    def tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        """One encoding (ids and character offsets) per text, in one call of the tokenizer."""
        backend: Any = self.tokenizer.backend_tokenizer
        # A saved tokenizer or an earlier call may have switched these on.
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        encodings: list[Encoding] = backend.encode_batch(list(texts), add_special_tokens=False)
        return encodings

    def token_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenize([text])[0].ids
        return ids

    def generation_prompt(self, messages: Messages, *, tools: str | None = None) -> list[int]:
        """The token ids after which a model writes its answer to `messages`; `tools` as in `Record`."""
        return self.token_ids(self.render(messages, tools=tools, generation=True))

    def answer_ids(self, prompt: Messages, text: str, *, ended: bool, tools: str | None = None) -> list[int]:
        """The token ids of an answer as a model writes it after `generation_prompt(prompt)`; `decode` is the reverse.

        Args:
            ended: whether the answer ended its turn; the ids then include the end of turn.
        """
        asked = self.render(prompt, tools=tools, generation=True)
        lead, end = self._frame
        one_token = len(self.token_ids(self.end_of_turn)) == 1
        answer = (lead if lead.isspace() else "") + text + (end if ended and one_token else "")
        before, whole, alone = (encoding.ids for encoding in self.tokenize([asked, asked + answer, answer]))
        # If a token would cross the boundary, the model writes the answer's own tokens: the prompt is already read.
        ids: list[int] = whole[len(before) :] if whole[: len(before)] == before else alone
        eos = self.tokenizer.eos_token_id
        return [*ids, int(eos)] if ended and not one_token and eos is not None else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids up to the end of the turn, without markup."""
        kept = list(ids)
        for position, token in enumerate(kept):
            if token in self.stop_ids:
                kept = kept[:position]
                break
        text: str = self.tokenizer.decode(kept, skip_special_tokens=True)
        lead, end = self._frame
        marker = end.strip()
        text = text.partition(marker)[0] if marker else text
        # White space between the answer and its markup (" </s>") is the template's, not the answer's.
        text = text.removesuffix(end.partition(marker)[0] if marker else "")
        return text.removeprefix(lead) if lead.isspace() else text

    def answer(self, ids: Sequence[int]) -> Answer:
        """The answer whose generated ids these are; without a stop token at its end it was cut at the limit."""
        return Answer(self.decode(ids), "stop" if len(ids) and ids[-1] in self.stop_ids else "length", len(ids))

    @property
    def end_of_turn(self) -> str:
        """The text that ends an assistant turn, such as `<|im_end|>`; the last trained text of a completion."""
        return self._frame[1].strip() or str(self.tokenizer.eos_token or "")

    @property
    def plain_start(self) -> str:
        """The BOS that the tokenizer itself writes before plain text; empty if it writes none."""
        return str(self.tokenizer.bos_token) if _adds_bos(self.tokenizer) else ""

    @property
    def answer_header(self) -> str:
        """The text between the generation prompt and the answer in the simplest chat."""
        return self._frame[0]

    def special_text(self) -> re.Pattern[str]:
        """Matches the text of any of the tokenizer's special tokens."""
        tokens = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return re.compile("|".join(map(re.escape, tokens)) or "(?!)")

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Token ids at which generation stops: EOS, and the end of the turn if it is one token."""
        ids = self.token_ids(self.end_of_turn)
        stops = {ids[0]} if len(ids) == 1 else set()
        if self.tokenizer.eos_token_id is not None:
            stops.add(self.tokenizer.eos_token_id)
        return tuple(sorted(stops))

    @cached_property
    def _frame(self) -> tuple[str, str]:
        """The texts between generation prompt and answer, and after the answer, in the simplest chat."""
        asked = (Message("user", "\ue0f1"),)
        prompt = self.render(asked, generation=True)
        head, _, tail = self.render((*asked, Message("assistant", "\ue0f2"))).partition("\ue0f2")
        return (head[len(prompt) :] if head.startswith(prompt) else ""), tail.rstrip()


def load_template(
    tokenizer: PreTrainedTokenizerBase, name: str | None = None, *, variables: Mapping[str, Any] | None = None
) -> Template:
    """The template of a run: the tokenizer's own if `name` is None, else the named one.

    A named template is written into `tokenizer.chat_template`, so that the saved tokenizer renders what was trained, in
    transformers and in any engine.

    Args:
        variables: further variables of the chat template, as `thinking` makes them.

    Raises:
        ConfigError: no template has that name, or none is named and the tokenizer has none.
        ModelError: the tokenizer has no fast version, or no token that ends an answer, or its template is broken.
    """
    label = getattr(tokenizer, "name_or_path", "") or "the tokenizer"
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{label}: palate needs a fast tokenizer (tokenizer.json); convert it with transformers")
    named = find_template(name) if name else None
    try:
        if named is None:
            template = _own(tokenizer, label, name, variables or {})
        else:
            template = _named(tokenizer, label, named, variables or {})
        ends = template.end_of_turn
    except DataError as error:
        raise ModelError(
            f"{label}: {error} (a question with its answer, nothing more); correct chat_template, or name another one, "
            "for example `template: chatml`"
        ) from error
    if not ends:
        raise ModelError(f"{label}: neither the template nor the tokenizer ends an answer; set tokenizer.eos_token")
    if "enable_thinking" in (variables or {}) and "enable_thinking" not in str(tokenizer.chat_template):
        unread = "enable_thinking has no effect: the chat template does not read it"
        template = replace(template, notices=(*template.notices, unread))
    return template


def _parse_tools(tools: str | None) -> list[Any] | None:
    """A record's tool specifications as objects; None for none.

    Raises:
        DataError: the text is not a JSON list.
    """
    if not tools:
        return None
    try:
        listed = json.loads(tools)
    except json.JSONDecodeError as error:
        raise DataError(f"tools is not JSON: {error}") from error
    if not isinstance(listed, list):
        raise DataError("tools is not a JSON list")
    return listed or None


def thinking(enabled: bool | None) -> dict[str, Any]:
    """The template variables for a config's `enable_thinking`; none for the template's default."""
    return {} if enabled is None else {"enable_thinking": enabled}


def _own(tokenizer: PreTrainedTokenizerBase, label: str, name: str | None, variables: Mapping[str, Any]) -> Template:
    if not tokenizer.chat_template:
        meant = f"template: {name} means the tokenizer's own, but " if name else ""
        raise ConfigError(f"{meant}{label} has no chat template; name one, for example `template: chatml`")
    template = Template(tokenizer, variables=variables)
    notices = []
    if name:
        notices.append(f"template {name}: the tokenizer's own chat template is used")
    text = template.render((Message("user", "x"),))
    bos = tokenizer.bos_token
    if bos and _adds_bos(tokenizer) and not text.startswith(bos):
        notices.append(f"the chat template does not write {bos}, which {label} adds to plain text; kept as it is")
    if _DATE in str(tokenizer.chat_template) and "date_string" not in variables:
        notices.append("the chat template may write today's date: tokens can differ from day to day")
    return replace(template, notices=tuple(notices))


def _named(
    tokenizer: PreTrainedTokenizerBase, label: str, named: NamedTemplate, variables: Mapping[str, Any]
) -> Template:
    jinja = named.jinja
    notices = []
    known = tokenizer.get_vocab()
    missing = [token for token in named.tokens if token not in known]
    if missing:
        notices.append(f"template {named.name}: {label} has no {' or '.join(missing)}; it is plain text to this model")
    tokenizer.chat_template = jinja
    template = Template(tokenizer, named.name, variables)
    if _adds_bos(tokenizer) and not template.render((Message("user", "x"),)).startswith(tokenizer.bos_token):
        # The model was trained with BOS before every text, and chats are tokenised without adding it.
        tokenizer.chat_template = "{{- bos_token -}}" + jinja
    return replace(template, notices=tuple(notices))


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts BOS before plain text."""
    ids = tokenizer.backend_tokenizer.encode("x", add_special_tokens=True).ids
    return tokenizer.bos_token_id is not None and bool(ids) and ids[0] == tokenizer.bos_token_id
