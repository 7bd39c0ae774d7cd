"""Streaming gives the text of `generate`, in pieces that never change, and can be ended at any token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from palate.models.generation.decoding import Decoding
from palate.models.generation.local.generate import generate
from palate.models.generation.local.stream import TextPieces, stream
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.records import Answer, Message
from palate.text.template import Template, load_template
from tiny import PACKED, tiny_tokenizer

PROMPT = (Message("user", "what was said?"),)
HOW = Decoding(max_new_tokens=24, temperature=1.0)


def model_for(template: Template, kind: str = "llama") -> Any:
    """A random model that knows every token of the tokenizer, so its answers have half characters and stop tokens."""
    tokenizer = template.tokenizer
    ids = {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    values = {**PACKED[kind], "vocab_size": len(tokenizer), **ids}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values)).eval()


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(tiny_tokenizer())


def whole(model: Any, template: Template, seed: int, decoding: Decoding = HOW) -> list[int]:
    prompt = template.generation_prompt(PROMPT)
    (ids,) = generate(model, [prompt], decoding, stop_ids=template.stop_ids, precision=FP32, seeds=[seed])
    return ids


@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # the CPU decoder, and transformers' own forward
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_pieces_are_the_text_that_generate_gives(template: Template, kind: str, temperature: float) -> None:
    model = model_for(template, kind)
    decoding = Decoding(max_new_tokens=24, temperature=temperature)
    parts = []
    for seed in range(6):
        pieces: list[str] = []
        answer = stream(model, template, PROMPT, decoding, seed, pieces.append, precision=FP32)
        ids = whole(model, template, seed, decoding)
        assert answer.text == template.decode(ids) == "".join(pieces)
        assert answer.tokens == len(ids)
        parts.append(sum(map(bool, pieces)))
    assert temperature == 0 or max(parts) > 3, "it comes in several pieces"


def test_an_answer_says_whether_it_ended(template: Template) -> None:
    ids = template.token_ids("a b")
    stop = template.stop_ids[0]
    assert template.answer([*ids, stop]) == Answer("a b", "stop", len(ids) + 1)
    assert template.answer(ids) == Answer("a b", "length", len(ids))
    assert template.answer([]) == Answer("", "length", 0)


def test_the_stop_token_ends_the_stream_and_is_no_text(template: Template) -> None:
    model = model_for(template)
    ids = whole(model, template, 0)
    middle = Template(template.tokenizer)
    object.__setattr__(middle, "stop_ids", (ids[9],))  # a token that this seed gives
    pieces: list[str] = []
    answer = stream(model, middle, PROMPT, HOW, 0, pieces.append, precision=FP32)
    first = ids.index(ids[9])
    assert answer == Answer(template.decode(ids[:first]), "stop", first + 1)
    assert "".join(pieces) == answer.text


def test_what_the_reader_raises_ends_it_and_the_model_is_as_before(template: Template) -> None:
    model = model_for(template)
    assert probe(model).packed
    model.train()
    attention = model.config._attn_implementation
    expected = whole(model, template, 3)
    calls: list[str] = []

    class GoneError(Exception):
        pass

    def on_text(text: str) -> None:
        calls.append(text)
        if len(calls) == 5:
            raise GoneError

    with pytest.raises(GoneError):
        stream(model, template, PROMPT, HOW, 3, on_text, precision=FP32)
    assert len(calls) == 5
    assert model.training
    assert torch.is_grad_enabled()
    assert model.config._attn_implementation == attention
    assert whole(model, template, 3) == expected


def characters(text: str) -> tuple[list[int], Callable[[Sequence[int]], str]]:
    """Tokens that are the bytes of a text, and their decoder."""
    return list(text.encode()), lambda ids: bytes(ids).decode("utf-8", "replace")


def test_half_a_character_is_held_back() -> None:
    ids, decode = characters("é €!")
    pieces = TextPieces(decode, "</s>")
    assert [pieces.add(token) for token in ids] == ["", "é", "", "", "", " €", "!"]
    assert pieces.rest() == ""


def test_the_begin_of_the_end_is_held_back_until_it_is_something_else() -> None:
    ids, decode = characters("a </b")
    pieces = TextPieces(lambda ids: decode(ids).partition("</s>")[0].removesuffix(" "), "</s>")
    assert [pieces.add(token) for token in ids] == ["a", "", "", "", " </b"]

    ids, decode = characters("a </s>")
    pieces = TextPieces(lambda ids: decode(ids).partition("</s>")[0].removesuffix(" "), "</s>")
    assert [pieces.add(token) for token in ids] == ["a", "", "", "", "", ""]
    assert pieces.rest() == ""


def test_what_was_held_back_comes_at_the_end() -> None:
    ids, decode = characters("a\n")
    pieces = TextPieces(decode, "</s>")
    assert [pieces.add(token) for token in [*ids, 0xC3]] == ["a", "", ""]
    assert pieces.rest() == "\n\ufffd"


def test_a_decoder_that_takes_text_back_adds_nothing_wrong() -> None:
    texts = {1: "ab", 2: "a", 3: "abc"}
    pieces = TextPieces(lambda ids: texts[len(ids)], "</s>")
    assert [pieces.add(0) for _ in range(3)] == ["ab", "", "c"]


def test_a_stop_text_ends_the_answer_and_its_begin_is_held_back() -> None:
    ids, decode = characters("so END? no END. more")
    pieces = TextPieces(decode, "</s>", ["END.", "###"])
    given = []
    for token in ids:
        given.append(pieces.add(token))
        if pieces.stopped:
            break
    assert "".join(given) == "so END? no "
    assert len(given) == len("so END? no END.")
    assert given[3:7] == ["", "", "", " END?"]
    assert pieces.rest() == ""


def test_without_a_stop_text_nothing_is_lost() -> None:
    ids, decode = characters("a ##")
    pieces = TextPieces(decode, "</s>", ["###"])
    assert "".join(map(pieces.add, ids)) + pieces.rest() == "a ##"
    assert not pieces.stopped
