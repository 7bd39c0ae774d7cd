"""Planted problems are all found, and nothing is found where nothing was planted."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from palate.data.inspect import Inspection, Problem, as_text, inspect_dataset
from palate.report.pages.inspection import inspection_page

SUBJECTS = ["bread", "bicycles", "violins", "volcanoes", "taxes", "gardens", "robots", "rivers", "castles", "whales"]
VERBS = ["explain", "describe", "summarise", "compare", "review", "outline", "discuss", "introduce"]
DETAILS = [
    "copper", "weather", "history", "balance", "pressure", "harvest", "colour", "market", "signal", "rhythm", "timber",
    "fabric", "engine", "island", "mirror", "pepper", "valley", "winter", "anchor", "bridge", "candle", "desert",
    "forest", "granite", "helmet", "insect", "jungle", "kettle", "ladder", "magnet", "needle", "orchid", "parcel",
]  # fmt: skip


def clean_pair(number: int) -> dict[str, Any]:
    """A pair with nothing wrong: two different answers about one subject."""
    chance = random.Random(number)
    subject = SUBJECTS[number % len(SUBJECTS)]
    first, second, third, *others = chance.sample(DETAILS, 12)
    verb = VERBS[number % len(VERBS)]
    prompt = f"Please {verb} how {subject} of type {number} depend on the {first} and the {second} of the {third}."
    chosen = (
        f"The {subject} of type {number} need {first} because the {others[0]} gives them {others[1]}. "
        f"When the {second} changes, you can see it in the {others[2]} after a while."
    )
    rejected = (
        f"With {subject} it was mostly about {third} and {others[3]}, and the {others[4]} had to wait. "
        f"In the end they use {others[5]} for it, which has little to do with the {first}."
    )
    if number % 2:
        rejected += f" There is also the {others[6]}, the {others[7]} and some of the {others[8]} to look at."
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


ROWS = 400
PLANTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "equal": lambda row: {**row, "rejected": row["chosen"] + " "},
    "empty_chosen": lambda row: {**row, "chosen": ""},
    "empty_rejected": lambda row: {**row, "rejected": " \n"},
    "formatting_only": lambda row: {**row, "rejected": "**" + row["chosen"].upper() + "**!!"},
    "length_only": lambda row: {**row, "rejected": " ".join(row["chosen"].split()[:12])},
    "off_topic": lambda row: {
        **row,
        "rejected": "Our hotel offers breakfast from seven until ten, swimming pools, saunas, massages, tennis courts, "
        "luggage storage, airport shuttles, conference rooms and laundry.",
    },
    "both_refuse": lambda row: {
        **row,
        "chosen": "I'm sorry, but I can't help with that. " + row["chosen"],
        "rejected": "As an AI language model, I am unable to do this. " + row["rejected"],
    },
    "language_differs": lambda row: {
        **row,
        "rejected": "Das ist eine gute Frage, aber ich weiß es nicht, weil ich noch nie darüber nachgedacht habe.",
    },
    "personal_data": lambda row: {**row, "chosen": row["chosen"] + " Write to jane.roe@mailbox.org for it."},
    "secret": lambda row: {**row, "rejected": row["rejected"] + " Use AKIAIOSFODNN7EXAMPLE then."},
    "toxic_chosen": lambda row: {**row, "chosen": row["chosen"] + " You fucking idiot."},
    "toxic_rejected": lambda row: {**row, "rejected": row["rejected"] + " You worthless piece of trash."},
    "equal_scores": lambda row: {**row, "score_chosen": 4, "score_rejected": 4},
    "reversed_scores": lambda row: {**row, "score_chosen": 3, "score_rejected": 4},
}


def planted(folder: Path) -> tuple[str, dict[str, set[str]]]:
    """A file with ten of each problem, and the ids that have it."""
    rows = [clean_pair(number) for number in range(ROWS)]
    truth: dict[str, set[str]] = {name: set() for name in (*PLANTS, "duplicate", "near_duplicate", "contradiction")}
    place = 0
    for name, plant in PLANTS.items():
        for _ in range(10):
            rows[place] = plant(rows[place])
            truth[name].add(f"set.jsonl:{place + 1}")
            place += 1
    for number in range(10):
        source, other = rows[200 + number], rows[220 + number]
        changed = {**source, "chosen": source["chosen"].replace("after a while", "after some while")}
        for name, row in (
            ("duplicate", {key: value + " " for key, value in source.items()}),
            ("near_duplicate", changed),
("contradiction", {**other, "chosen": other["rejected"], "rejected": other["chosen"]}),
        ):  # fmt: skip
            rows.append(row)
            truth[name].add(f"set.jsonl:{len(rows)}")
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "set.jsonl"), truth


def problem_of(found: Inspection, name: str) -> Problem | None:
    return next((problem for problem in found.problems if problem.name == name), None)


def ids(found: Inspection, name: str) -> set[str]:
    problem = problem_of(found, name)
    return {sample.id for sample in problem.samples} if problem else set()


def test_every_planted_problem_is_found_and_no_other(tmp_path: Path) -> None:
    path, truth = planted(tmp_path)
    found = inspect_dataset(path, samples=1000)
    for name, expected in truth.items():
        seen = ids(found, name)
        recall = len(seen & expected) / len(expected)
        precision = len(seen & expected) / max(1, len(seen))
        assert (name, recall) == (name, 1.0)
        assert (name, precision) == (name, 1.0)
    # A row that is nearly another may also be reported under a neighbouring name, but nothing else may turn up.
    assert {problem.name for problem in found.problems} <= {*truth, "near_equal", "length_bias", "inconsistent"}


def test_a_clean_file_has_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "clean.jsonl"
    path.write_text("".join(json.dumps(clean_pair(number)) + "\n" for number in range(300)))
    found = inspect_dataset(str(path))
    assert found.problems == ()
    assert (found.rows, found.records, found.prompts) == (300, 300, 300)
    assert found.languages == {"en": 300}
    assert found.turns == {1: 300}
    assert found.longer_is_chosen is not None
    assert found.longer_is_chosen.low < 0.6
    assert "no problem found" in as_text(found)


def test_processes_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = planted(tmp_path)
    against = tmp_path / "eval.jsonl"
    against.write_text(json.dumps({"question": clean_pair(300)["prompt"]}) + "\n")
    monkeypatch.setattr("palate.data.parallel._FEWEST_CHUNKS", 1)
    one = inspect_dataset(path, against=str(against))
    assert inspect_dataset(path, against=str(against), workers=2).as_json() == one.as_json()
    assert problem_of(one, "leak") is not None


def test_leaks_into_evaluation(tmp_path: Path) -> None:
    rows = [clean_pair(number) for number in range(50)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "eval.csv").write_text(f'Question\n{rows[7]["prompt"]}\n"{rows[9]["prompt"].upper()}"\n')
    found = inspect_dataset(str(tmp_path / "train.jsonl"), against=str(tmp_path / "eval.csv"))
    assert ids(found, "leak") == {"train.jsonl:8", "train.jsonl:10"}


def test_half_a_surrogate_in_evaluation_data_is_no_obstacle(tmp_path: Path) -> None:
    row = {**clean_pair(1), "note": "half an emoji \ud83d in a text that nobody trains on, long enough to be compared"}
    (tmp_path / "eval.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "train.jsonl").write_text(json.dumps(clean_pair(1)) + "\n")
    found = inspect_dataset(str(tmp_path / "train.jsonl"), against=str(tmp_path / "eval.jsonl"))
    assert ids(found, "leak") == {"train.jsonl:1"}


def test_nothing_private_is_quoted(tmp_path: Path) -> None:
    mail = "jane.roe@mailbox.org"
    row = {"prompt": "Whom do I ask about it?", "chosen": f"Ask {mail} about it today.", "rejected": f"Ask {mail}"}
    rows = [{**row, "system": f"You answer for {mail}."}, {**row, "rejected": f"ask {mail.upper()} about it, today!"}]
    rows.append({**row, "rejected": row["chosen"]})
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = inspect_dataset(str(tmp_path / "set.jsonl"))
    assert {"length_only", "formatting_only", "equal"} <= {problem.name for problem in found.problems}
    assert found.systems == {"You answer for jane….": 1}
    assert "mailbox" not in (as_text(found) + inspection_page(found, "page") + json.dumps(found.as_json())).lower()


def test_token_lengths_and_what_is_cut(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a b", "chosen": "c " * 20, "rejected": "d"},
        {"prompt": "a " * 9, "chosen": "c", "rejected": "d"},
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = inspect_dataset(
        str(tmp_path / "set.jsonl"),
        count_tokens=lambda texts: [len(text.split()) for text in texts],
        render=lambda messages: " ".join(f"<{message.role}> {message.content}" for message in messages),
        cutoff_len=15,
    )
    assert found.tokens is not None
    # <user> a b <assistant> c × 20: a prompt of 3, completions of 21 and 2; the other row 10, 2 and 2.
    assert (found.tokens.over, found.tokens.hopeless, found.tokens.total) == (1, 1, 3 + 21 + 2 + 10 + 2 + 2)
    assert found.tokens.row is not None
    assert found.tokens.row.largest == 24
    assert ids(found, "cut") == {"set.jsonl:1"}


def test_biases_of_the_whole_set(tmp_path: Path) -> None:
    rows = [clean_pair(number) for number in range(200)]
    for row in rows:
        row["chosen"] += " And that is all there is to say about the whole of this rather interesting subject matter."
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert problem_of(inspect_dataset(str(tmp_path / "long.jsonl")), "length_bias") is not None
    votes = [
        {"question": row["prompt"], "answer_1": row["chosen"], "answer_2": row["rejected"], "chosen": 1 if n % 5 else 2}
        for n, row in enumerate(rows)
    ]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in votes))
    found = inspect_dataset(str(tmp_path / "votes.jsonl"))
    assert found.first_won is not None
    assert found.first_won.estimate == pytest.approx(0.8)
    assert problem_of(found, "position_bias") is not None


def test_labels_in_blocks_and_in_contradiction(tmp_path: Path) -> None:
    pairs = [clean_pair(number) for number in range(60)]
    labels = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in pairs]
    labels += [{"prompt": row["prompt"], "completion": row["rejected"], "label": False} for row in pairs]
    labels.append({**labels[0], "label": False})
    (tmp_path / "kto.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    found = inspect_dataset(str(tmp_path / "kto.jsonl"))
    assert found.labels == {"desirable": 60, "undesirable": 61}
    assert problem_of(found, "sorted_labels") is not None
    assert ids(found, "contradiction") == {"kto.jsonl:121"}


def test_prompts_are_clustered_and_gaps_named(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"How do I bake {kind} bread number {n} in an oven with flour and yeast?", "chosen": f"Mix it. {n}",
         "rejected": f"No idea, {n}."}
        for n in range(60) for kind in ("rye",)
    ] + [
        {"prompt": f"Which Python function sorts list number {n} of integers in code?", "chosen": f"Use sorted {n}.",
         "rejected": f"Nothing does, {n}."}
        for n in range(60)
    ]  # fmt: skip
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = inspect_dataset(str(tmp_path / "two.jsonl"))
    marks = [set(cluster.words) for cluster in found.clusters]
    assert any({"bread"} & words for words in marks)
    assert any({"python"} & words for words in marks)
    assert not any("bread" in words and "python" in words for words in marks)
    assert any("safety" in gap for gap in found.gaps)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def test_the_page_escapes_everything(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    rows = [{"prompt": attack, "system": attack, "chosen": attack, "rejected": attack.upper(), attack: 1}] * 3
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = inspection_page(inspect_dataset(str(tmp_path / "x.jsonl")), attack)
    tags = Tags()
    tags.feed(page)
    assert not {"script", "img", "iframe", "link"} & tags.seen
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_real_files_are_inspected(shared_data: Callable[[str], Path]) -> None:
    found = inspect_dataset(str(shared_data("preference/ultrafeedback_1k_train.jsonl")))
    assert (found.rows, found.records) == (1000, 993)
    assert problem_of(found, "equal") is not None
    assert found.longer_is_chosen is not None
    assert 0.52 < found.longer_is_chosen.estimate < 0.59
    assert found.languages["en"] > 900
    text, page = as_text(found), inspection_page(found, "UltraFeedback")
    assert "1,000 rows" in text
    assert len(page) > 5000
    kto = inspect_dataset(str(shared_data("preference/lf_kto_en_demo.json")))
    assert sum(kto.labels.values()) == 300


def test_chinese_is_judged_by_nothing_that_it_has_no_words_for(shared_data: Callable[[str], Path]) -> None:
    found = inspect_dataset(str(shared_data("preference/lf_dpo_zh_demo.json")))
    assert found.languages["zh"] / found.records > 0.98
    assert (found.clusters, dict(found.improvements), found.gaps) == ((), {}, ())
    text = as_text(found)
    assert "prompts are about" not in text
    assert "not judged for 300 records in zh, ja" in text
    (refused,) = ids(found, "both_refuse")
    assert refused == "lf_dpo_zh_demo.json:243"


def test_tool_calls_are_in_no_other_language(shared_data: Callable[[str], Path]) -> None:
    found = inspect_dataset(str(shared_data("preference/medicalgpt_toolcall_dpo_zh.jsonl")))
    assert found.languages == {"zh": 11}
    assert problem_of(found, "language_differs") is None


def test_two_short_english_rows(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Write a haiku about the sea.", "chosen": "Waves fold into foam", "rejected": "no"},
        {"prompt": "Name a colour.", "chosen": "Blue, obviously.", "rejected": "I cannot say."},
    ]
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = inspect_dataset(str(tmp_path / "two.jsonl"))
    assert found.languages == {"en": 2}
    assert (found.gaps, dict(found.improvements), found.clusters) == ((), {}, ()), "two rows say nothing of a set"


def test_too_little_text_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": "WLAN", "chosen": "42", "rejected": "7"}) + "\n")
    found = inspect_dataset(str(tmp_path / "one.jsonl"))
    assert "too little text to tell 100%" in as_text(found)
    assert ">too little text to tell<" in inspection_page(found, "one")


class Browsable(HTMLParser):
    """Links, the elements with an id, and tables that are in no scroll container."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.loose_tables = 0
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(str(given["href"]))
        if "id" in given:
            self.ids.append(str(given["id"]))
        if tag == "table" and not any("scroll" in one for one in self._open):
            self.loose_tables += 1
        if tag in ("div", "section"):
            self._open.append(str(given.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("div", "section"):
            self._open.pop()


def test_rows_can_be_browsed_and_problems_lead_to_them(tmp_path: Path) -> None:
    path, truth = planted(tmp_path)
    found = inspect_dataset(path, samples=50, rows=45)
    assert len(found.shown) > 45
    shown = {row.id: row for row in found.shown}
    assert truth["duplicate"] <= shown.keys(), "a row that is found by comparing all of them is shown too"
    assert "duplicate" in shown[min(truth["duplicate"])].problems
    assert [label for label, _ in found.shown[0].answers] == ["chosen", "rejected"]
    assert "shown" not in found.as_json()
    page = inspection_page(found, "set")
    seen = Browsable(page)
    assert {link.removeprefix("#") for link in seen.links} <= set(seen.ids)
    assert {"rows-1", "rows-21", "rows-41", "row-1"} <= set(seen.ids)
    assert seen.loose_tables == 0
    assert "jane.roe@mailbox.org" not in page, "private data is masked in the rows too"
    assert "AKIAIOSFODNN7EXAMPLE" not in page


def test_without_rows_no_text_is_kept(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(json.dumps(clean_pair(1)) + "\n")
    assert inspect_dataset(str(tmp_path / "set.jsonl")).shown == ()
