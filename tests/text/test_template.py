"""The template of a run: the tokenizer's own or a named one, its BOS and EOS, and generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from palate.errors import ConfigError, DataError, ModelError
from palate.records import Messages
from palate.text.named import ALIASES, TEMPLATES
from palate.text.template import load_template

Chat = Callable[..., Messages]
Make = Callable[[str], PreTrainedTokenizerFast]


def test_own_template_is_used_where_none_is_named(plain_bytes: Any, chat: Chat) -> None:
    plain_bytes.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}"
    template = load_template(plain_bytes)
    assert template.render(chat("u: hi", "a: ho")) == "<user>hi<|im_end|><assistant>ho<|im_end|>"
    assert (template.name, template.end_of_turn) == ("tokenizer", "<|im_end|>")


def test_a_tokenizer_without_template_names_the_remedy(plain_bytes: Any) -> None:
    with pytest.raises(ConfigError, match="has no chat template; name one, for example `template: chatml`") as error:
        load_template(plain_bytes)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="template: qwen3 means the tokenizer's own, but"):
        load_template(plain_bytes, "qwen3")


def test_an_unknown_name_is_refused_with_the_nearest_one(plain_bytes: Any) -> None:
    with pytest.raises(
        ConfigError, match="template: chatlm is not known; did you mean chatml\\? Known are qwen, qwen2, chatml"
    ):
        load_template(plain_bytes, "chatlm")


@pytest.mark.parametrize(("alias", "name"), [*ALIASES.items(), ("QWEN", "qwen"), ("default", "default")])
def test_other_names_mean_the_same_template(plain_bytes: Any, alias: str, name: str) -> None:
    assert load_template(plain_bytes, alias).name == name


def test_a_familys_name_means_the_tokenizers_own(smollm2: Any) -> None:
    own = smollm2.chat_template
    template = load_template(smollm2, "qwen3")
    assert smollm2.chat_template == own
    assert template.notices == ("template qwen3: the tokenizer's own chat template is used",)


def test_a_named_template_is_saved_with_the_tokenizer(plain_bytes: Any, chat: Chat, tmp_path: Any) -> None:
    talk = chat("s: Be brief.", "u: hi", "a: ho")
    text = load_template(plain_bytes, "zephyr").render(talk)
    plain_bytes.save_pretrained(tmp_path)
    saved = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert saved.apply_chat_template([{"role": m.role, "content": m.content} for m in talk], tokenize=False) == text


def test_missing_markup_is_told(make_tokenizer: Make) -> None:
    assert load_template(make_tokenizer("byte_level"), "chatml").notices == ()
    (notice,) = load_template(make_tokenizer("byte_level"), "gemma").notices
    assert "has no <start_of_turn> or <end_of_turn>; it is plain text to this model" in notice


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
def test_bos_is_written_once_where_the_model_expects_it(make_tokenizer: Make, chat: Chat, name: str, kind: str) -> None:
    template = load_template(make_tokenizer(kind), name)
    ids = template.generation_prompt(chat("u: hi"))
    bos = template.tokenizer.bos_token_id
    assert ids.count(bos) == (1 if kind == "sentence_piece" else 0)
    assert kind == "byte_level" or ids[0] == bos


def test_a_bos_that_the_own_template_leaves_out_is_told_not_added(make_tokenizer: Make, chat: Chat) -> None:
    tokenizer = make_tokenizer("sentence_piece")
    tokenizer.chat_template = TEMPLATES["chatml"].jinja
    template = load_template(tokenizer)
    assert tokenizer.bos_token_id not in template.generation_prompt(chat("u: hi"))
    assert "does not write <s>" in template.notices[0]


def test_no_end_of_answer_at_all_is_refused(plain_bytes: Any) -> None:
    plain_bytes.eos_token = None
    with pytest.raises(ModelError, match=r"set tokenizer\.eos_token"):
        load_template(plain_bytes, "plain")


@pytest.mark.parametrize("broken", ["{{ raise_exception('never') }}", "{% for %}", "{{ messages[7].content }}"])
def test_a_template_that_renders_nothing_names_the_remedy(plain_bytes: Any, broken: str) -> None:
    plain_bytes.chat_template = broken
    with pytest.raises(ModelError, match=r"the chat template refuses .*; correct chat_template, or name another"):
        load_template(plain_bytes)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False
        name_or_path = "slow-model"

    with pytest.raises(ModelError, match="slow-model: palate needs a fast tokenizer"):
        load_template(Slow())  # type: ignore[arg-type]


def test_a_refused_conversation_is_one_line(plain_bytes: Any, chat: Chat) -> None:
    plain_bytes.chat_template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no\n tools') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    template = load_template(plain_bytes)
    with pytest.raises(DataError, match="the chat template refuses the conversation: no tools"):
        template.render(chat("u: hi", "t: 3"))


def test_variables_reach_the_template(plain_bytes: Any, chat: Chat) -> None:
    plain_bytes.chat_template = "{{ mood }}{% for m in messages %}{{ m.content }}{% endfor %}"
    template = load_template(plain_bytes, variables={"mood": "calm "})
    assert template.render(chat("u: hi")) == "calm hi"


def test_a_date_in_the_template_is_told(plain_bytes: Any) -> None:
    plain_bytes.chat_template = "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert "today's date" in load_template(plain_bytes).notices[0]
    assert load_template(plain_bytes, variables={"date_string": "1 Jan 2025"}).notices == ()


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_generated_decodes_to_the_answer(plain_bytes: Any, chat: Chat, name: str) -> None:
    template = load_template(plain_bytes, name)
    prompt = chat("s: Be brief.", "u: What is it?")
    answer = "The answer is 12,\n\nand no more."
    whole = template.tokenize([template.render((*prompt, *chat(f"a: {answer}")))])[0].ids
    begun = template.generation_prompt(prompt)
    if whole[: len(begun)] == begun:
        assert template.decode(whole[len(begun) :]) == answer
    written = template.tokenize([(" " if template._frame[0] else "") + answer + template.end_of_turn + "\nmore"])[0].ids
    assert template.decode(written) == answer


def test_generation_stops_at_the_end_of_turn_and_at_eos(make_tokenizer: Make) -> None:
    template = load_template(make_tokenizer("byte_level"), "chatml")
    ids = template.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert template.stop_ids == tuple(sorted(ids))
    # Two tokens or more cannot be a stop id: generation then ends at EOS, and `decode` cuts the text.
    assert load_template(make_tokenizer("byte_level"), "gemma").stop_ids == (ids[0],)


def test_padding_and_truncation_left_in_the_tokenizer_do_no_harm(plain_bytes: Any, chat: Chat) -> None:
    template = load_template(plain_bytes, "chatml")
    alone = template.generation_prompt(chat("u: hi"))
    plain_bytes(["a", "a longer text"], padding=True, truncation=True, max_length=2)
    assert plain_bytes.backend_tokenizer.truncation is not None
    assert template.generation_prompt(chat("u: hi")) == alone


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("ended", [True, False])
def test_an_answers_ids_are_what_stands_behind_the_generation_prompt(
    tokenizer: PreTrainedTokenizerFast, chat: Chat, name: str, ended: bool
) -> None:
    """What an engine answered as text is scored as a training row with that answer would be."""
    template = load_template(tokenizer, name)
    ids = template.answer_ids(chat("u: hi"), "yes yes", ended=ended)
    assert template.decode(ids) == "yes yes"
    assert (ids[-1] in template.stop_ids) == ended
    asked = template.generation_prompt(chat("u: hi"))
    whole = template.tokenize([template.render(chat("u: hi", "a: yes yes"))])[0].ids
    if whole[: len(asked)] == asked and len(template.tokenize([template.end_of_turn])[0].ids) == 1:
        shared = len(ids) if ended else len(ids) - 1  # an answer that was cut may end within a token
        assert whole[len(asked) :][:shared] == ids[:shared]
