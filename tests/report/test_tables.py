"""Any JSON becomes readable tables; nothing is lost and no secret is shown."""

from __future__ import annotations

from palate.report.tables import Block, block, by_reason, settings


def every_text(found: Block) -> str:
    table = [cell for row in (found.table.rows if found.table else ()) for cell in row]
    own = [found.title, *(text for pair in (*found.facts, *found.texts) for text in pair), *table]
    return " ".join([*own, *(every_text(part) for part in found.parts)])


def test_plain_values_are_lines() -> None:
    found = block("", {"rows_read": 1234, "share": 0.25, "packed": True, "path": None, "kinds": ["a", "b"], "none": []})
    assert found.facts == [("rows read", "1,234"), ("share", "0.25"), ("packed", "yes"), ("kinds", "a, b")]


def test_a_few_numbers_stay_on_a_line_and_counts_too() -> None:
    found = block("", {"rows": {"read": 3, "used": 2}, "dropped_by_reason": {"too_long": 1}})
    assert found.facts == [("rows", "read 3, used 2"), ("dropped by reason", "too long 1")]


def test_mappings_alike_are_the_rows_of_one_table() -> None:
    lengths = {f"q{n}": n for n in range(8)}
    found = block("", {"prompt": lengths, "chosen": {**lengths, "q0": 1000}, "groups": 7})
    assert found.facts == [("groups", "7")]
    assert found.table is not None
    assert [row[:2] for row in found.table.rows] == [["prompt", "0"], ["chosen", "1,000"]]
    assert found.table.numeric == set(range(1, 9))


def test_a_single_source_is_a_row_too() -> None:
    (part,) = block("", {"sources": {"pairs": {"rows_read": 3, "dropped_by_reason": {"equal": 1}}}}).parts
    assert part.table is not None
    assert part.table.rows == [["pairs", "3", "equal 1"]]


def test_dropped_rows_are_counted_by_reason_with_their_first_ids() -> None:
    rows = [{"id": f"a:{n}", "reason": "equal", "detail": "same"} for n in range(9)]
    table = by_reason([{"id": "b:1", "reason": "too_long"}, *rows])
    assert table.rows == [["equal", "9", "a:0, a:1, a:2, a:3, a:4 …", "same"], ["too long", "1", "b:1", "–"]]


def test_long_tables_and_lists_say_how_much_is_left_out() -> None:
    (part,) = block("", {"cuts": [{"id": n} for n in range(33)]}).parts
    assert part.table is not None
    assert (len(part.table.rows), part.table.more) == (20, 13)
    assert block("", {"ids": list(range(25))}).facts[0][1].endswith("19 … and 5 more")


def test_long_texts_keep_their_lines() -> None:
    assert block("", {"prompt": "one\ntwo"}).texts == [("prompt", "one\ntwo")]


def test_titles_of_nested_parts_are_joined() -> None:
    found = block("", {"tokens": {"train": {"a": "x", "b": 1}, "eval": {"c": "y"}}})
    assert [part.title for part in found.parts] == ["tokens, train", "tokens, eval"]


def test_nothing_is_lost() -> None:
    deep = {"a": {"b": {"c": [{"d": {"e_by_reason": {"leaf": 1}}}, {"f": "other"}]}, "g": "text"}, "h": [1, "two"]}
    text = every_text(block("", deep))
    assert all(word in text for word in ("leaf", "other", "text", "two"))


def test_settings_can_be_written_down_again() -> None:
    found = settings({"learning_rate": 5e-7, "dataset": "demo", "lora_rank": None, "report_to": ["none"], "text": ""})
    assert found.facts == [
        ("learning_rate", "5e-07"),
        ("dataset", "demo"),
        ("lora_rank", "null"),
        ("report_to", '["none"]'),
        ("text", '""'),
    ]


def test_secrets_are_hidden_and_lookalikes_are_not() -> None:
    given = {"api_key": "CANARY-123", "hf_token": "CANARY-123", "judge": {"api_key": "CANARY-123", "model": "m"}}
    assert "CANARY" not in every_text(block("", given))
    assert "CANARY" not in every_text(settings(given))
    assert "CANARY" not in every_text(block("", {"judges": [given, given]}))
    assert "4096" in every_text(settings({"max_tokens_per_batch": 4096}))
