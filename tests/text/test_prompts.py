"""Prompts alone as groups, within what leaves room for an answer."""

from __future__ import annotations

from palate.records import Message, Record, ToolCall
from palate.text.prompts import encode_prompts
from palate.text.template import load_template
from tiny import tiny_tokenizer


def test_a_group_is_the_prompt_up_to_the_answer() -> None:
    template = load_template(tiny_tokenizer())
    record = Record(id="a:1", prompt=(Message("user", "what is it"),), weight=2.0, source="a")
    encoded = encode_prompts([record], template, limit=64)
    (group,) = encoded.groups
    assert group.prompt_ids.tolist() == template.generation_prompt(record.prompt)
    assert (group.id, group.weight, group.source, group.completions) == ("a:1", 2.0, "a", ())
    assert group.record is record


def test_long_prompts_lose_old_turns_then_their_beginning_or_are_dropped() -> None:
    template = load_template(tiny_tokenizer())
    turns = [Message("user", "old " * 30), Message("assistant", "yes"), Message("user", "what is it")]
    record = Record(id="a:1", prompt=tuple(turns))
    last = template.generation_prompt(tuple(turns[2:]))
    shortened = encode_prompts([record], template, limit=len(last))
    assert shortened.groups[0].prompt_ids.tolist() == last
    assert (shortened.cuts[0].turns_removed, shortened.stats.over_length) == (1, 1)
    cut = encode_prompts([record], template, limit=len(last) - 3)
    assert cut.groups[0].prompt_ids.tolist() == last[3:]
    dropped = encode_prompts([record], template, limit=len(last), truncation="drop")
    assert [row.reason for row in dropped.dropped] == ["too_long"]
    assert not dropped.groups


def test_a_prompt_whose_tool_calls_the_template_leaves_out_is_dropped() -> None:
    tokenizer = tiny_tokenizer()
    call = Message("assistant", "", (ToolCall("f", "{}"),))
    prompt = (Message("user", "q"), call, Message("tool", "1"))
    encoded = encode_prompts([Record(id="r:1", prompt=prompt)], load_template(tokenizer), limit=500)
    assert [(row.id, row.reason) for row in encoded.dropped] == [("r:1", "template_refused")]
    assert "leaves out tool calls" in encoded.dropped[0].detail
    kept = encode_prompts([Record(id="r:1", prompt=prompt)], load_template(tokenizer, "qwen"), limit=2000)
    assert "<tool_call>" in tokenizer.decode(kept.groups[0].prompt_ids)
