"""Rules keep what they should, every row left out has its reason, and nothing depends on processes or order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from palate.data import load_records
from palate.data.curate import PRESETS, RULES, curate, read_rules
from palate.data.curate.funnel import funnel_table
from palate.errors import ConfigError, DataError
from palate.records import PreferencePair

WORDS = ["apple", "river", "stone", "cloud", "paper", "music", "ocean", "green", "table", "light", "horse", "bread"]
HOTEL = "Breakfast, swimming pools, saunas, massages, tennis courts, luggage storage, shuttles, laundry rooms."
TALK = "It is what it is and so it is, and that is that, is it not, or is it so? It is the."
GERMAN = "Das weiß ich leider nicht, aber du kannst einen anderen fragen, der es weiß."
GERMAN_PROMPT = "Wie koche ich die Kartoffeln, und wie lange muss ich auf sie warten?"
GOOD = {
    "prompt": "How do I boil potatoes?",
    "chosen": "Wash the potatoes, put them into cold water, add salt and boil them for twenty minutes on the stove.",
    "rejected": "You could go and ask somebody else about that, because it is not so very easy at all, is it?",
}


def written(folder: Path, rows: list[dict[str, Any]], name: str = "set.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def left_out(folder: Path, rows: list[dict[str, Any]], rules: Any) -> list[tuple[str, str]]:
    """(row id, rule) of the rows that rules leave out."""
    curate(written(folder, rows), folder / "out", read_rules({"rules": rules}))
    return [(row["origin"], row["rejected_by"]) for row in lines(folder / "out" / "rejected.jsonl")]


@pytest.mark.parametrize(
    ("rule", "settings", "bad"),
    [
        ("min_length", {}, {"chosen": "x" * 60}),
        ("max_length", {"characters": 150}, {"rejected": "word " * 31}),
        ("length_difference", {"characters": 1}, {"rejected": "z" * len(GOOD["chosen"])}),
        ("length_ratio", {"largest": 2}, {"rejected": "No, that is it."}),
        ("edit_difference", {}, {"rejected": GOOD["chosen"].replace("twenty", "ten")}),
        ("vector_difference", {}, {"rejected": GOOD["chosen"].replace("twenty", "ten")}),
        ("overlap", {}, {"rejected": " ".join(reversed(GOOD["chosen"].split()))}),
        ("stop_words", {}, {"chosen": TALK}),
        ("more_nouns_and_verbs", {}, {"chosen": GOOD["rejected"], "rejected": GOOD["chosen"]}),
        ("weak_phrases", {}, {"chosen": "I’m not sure. " + GOOD["chosen"]}),
        ("weak_phrases", {"phrases": ["cold water"]}, {}),
        ("languages", {}, {"prompt": GERMAN_PROMPT}),
        ("same_language", {}, {"rejected": GERMAN}),
        ("formatting_only", {}, {"rejected": "# " + GOOD["chosen"].upper()}),
        ("length_only", {}, {"rejected": GOOD["chosen"][:60]}),
        ("off_topic", {}, {"prompt": "How do I boil potatoes in cold water with salt?", "rejected": HOTEL}),
        ("refusals", {}, {"chosen": "I'm sorry, I cannot help.", "rejected": "I am unable to answer this."}),
        ("toxicity", {}, {"chosen": GOOD["chosen"] + " Bitch."}),
        ("toxicity", {"side": "rejected"}, {"rejected": "Bitch."}),
        ("personal_data", {}, {"prompt": "Mail jane.roe@mailbox.org how to boil potatoes."}),
        ("margin", {}, {"margin": 0.2}),
        ("margin", {"without": False}, {}),
    ],
)  # fmt: skip
def test_each_row_rule(tmp_path: Path, rule: str, settings: dict[str, Any], bad: dict[str, Any]) -> None:
    passing = {**GOOD, "margin": 2.0, "chosen": GOOD["chosen"].replace("cold water", "water")}
    rows = [passing, {**GOOD, **bad}]
    assert left_out(tmp_path, rows, [{rule: settings}]) == [("set.jsonl:2", rule)]
    detail = lines(tmp_path / "out" / "rejected.jsonl")[0]["detail"]
    assert detail


CHINESE = {
    "prompt": "土豆怎么煮？",
    "chosen": "先把土豆洗干净，放进冷水里，加一点盐，然后在炉子上煮二十分钟左右，直到变软为止。",
    "rejected": "我觉得你可以去问问别人，因为这件事情其实并不是那么容易的，对不对？",
}
IN_GERMAN = {
    "prompt": GERMAN_PROMPT,
    "chosen": "Ich denke, dass man die Kartoffeln in das kalte Wasser gibt und sie dann zwanzig Minuten lang kocht.",
    "rejected": GERMAN,
}


@pytest.mark.parametrize("phrase", ["I think", "i THINK", "It’s Fine", "it's fine"])
def test_weak_phrases_match_in_any_case(tmp_path: Path, phrase: str) -> None:
    rows = [GOOD, {**GOOD, "chosen": f"{phrase.upper().replace('’', chr(39))}. {GOOD['chosen']}"}]
    assert left_out(tmp_path, rows, [{"weak_phrases": {"phrases": [phrase]}}]) == [("set.jsonl:2", "weak_phrases")]
    inside = [GOOD, {**GOOD, "chosen": f"{GOOD['chosen']} Maybe i thinker."}]
    assert left_out(tmp_path, inside, [{"weak_phrases": {"phrases": ["i think"]}}]) == []


def test_phrases_of_scripts_without_spaces_and_of_other_languages_are_found(tmp_path: Path) -> None:
    rows = [GOOD, {**CHINESE, "chosen": CHINESE["rejected"], "rejected": CHINESE["chosen"]}, IN_GERMAN]
    rules = [{"weak_phrases": {"phrases": ["觉得", "ICH DENKE"]}}]
    assert left_out(tmp_path, rows, rules) == [("set.jsonl:2", "weak_phrases"), ("set.jsonl:3", "weak_phrases")]


def test_rules_that_know_english_say_how_many_rows_they_cannot_judge(tmp_path: Path) -> None:
    backwards = {**GOOD, "prompt": "Potatoes?", "chosen": GOOD["rejected"], "rejected": GOOD["chosen"]}
    names = ["stop_words", "weak_phrases", "refusals", "toxicity", "more_nouns_and_verbs"]
    rows = [GOOD, backwards, CHINESE, IN_GERMAN]
    done = curate(written(tmp_path, rows), tmp_path / "out", read_rules({"rules": names}))
    rejected = [(row["origin"], row["rejected_by"]) for row in lines(tmp_path / "out" / "rejected.jsonl")]
    assert rejected == [("set.jsonl:2", "more_nouns_and_verbs")]
    expected = {"stop_words": 2, "weak_phrases": 2, "refusals": 2, "toxicity": 1, "more_nouns_and_verbs": 2}
    assert {step.rule: step.not_judged for step in done.steps if step.not_judged} == expected
    assert json.loads((tmp_path / "out" / "data.json").read_text())["counts"]["not_judged"] == expected
    table = funnel_table(done.steps)
    assert "more_nouns_and_verbs: not judged, because the answers are not in en: 2" in table
    assert "toxicity: not judged, because the answers are not in en, de, fr, es, it, pt: 1" in table


def test_rules_without_a_language_judge_every_row(tmp_path: Path) -> None:
    done = curate(written(tmp_path, [GOOD, CHINESE]), tmp_path / "out", read_rules({"rules": ["min_length"]}))
    assert [step.not_judged for step in done.steps] == [0, 0]
    assert "not judged" not in funnel_table(done.steps)
    assert [row["origin"] for row in lines(tmp_path / "out" / "rejected.jsonl")] == ["set.jsonl:2"]


def test_duplicates_contradictions_and_caps(tmp_path: Path) -> None:
    other = {**GOOD, "prompt": "How do I fry an egg?"}
    near = {**GOOD, "chosen": GOOD["chosen"].replace("twenty", "thirty")}
    rows = [GOOD, other, {**GOOD, "chosen": GOOD["chosen"].upper()}, near,
            {**other, "chosen": other["rejected"], "rejected": other["chosen"]}]  # fmt: skip
    assert left_out(tmp_path, rows, ["exact_duplicates"]) == [("set.jsonl:3", "exact_duplicates")]
    assert left_out(tmp_path, rows, ["contradictions"]) == [
        ("set.jsonl:2", "contradictions"), ("set.jsonl:5", "contradictions")
    ]  # fmt: skip
    three = [GOOD, rows[2], near]
    assert left_out(tmp_path, three, ["exact_duplicates", "near_duplicates"]) == [
        ("set.jsonl:2", "exact_duplicates"), ("set.jsonl:3", "near_duplicates")
    ]  # fmt: skip
    assert left_out(tmp_path, rows, [{"exact_duplicates": {"of": "prompt"}}]) == [
        (f"set.jsonl:{n}", "exact_duplicates") for n in (3, 4, 5)
    ]
    margins = [{**GOOD, "chosen": f"{GOOD['chosen']} {n}", "margin": n} for n in (1, 3, 2)]
    assert left_out(tmp_path, margins, [{"cap_per_prompt": {"rows": 2}}]) == [("set.jsonl:1", "cap_per_prompt")]


def varied(count: int, start: int = 0) -> list[dict[str, Any]]:
    chance = random.Random(1)
    return [
        {
            "prompt": f"question {n} about {' '.join(chance.sample(WORDS, 4))}",
            "chosen": f"The answer {n} is {' '.join(chance.choices(WORDS, k=12))}",
            "rejected": f"It has {' '.join(chance.choices(WORDS, k=9))} {n}",
        }
        for n in range(start, start + count)
    ]


def test_balance_and_sample_do_not_depend_on_order(tmp_path: Path) -> None:
    small, large = written(tmp_path, varied(5), "small.jsonl"), written(tmp_path, varied(20, 5), "large.jsonl")
    rules = read_rules({"rules": [{"balance_sources": {"largest_ratio": 2}}]})
    for dataset in ([small, large], [large, small]):
        done = curate(dataset, tmp_path / "out", rules)
        kept = {row["origin"] for row in lines(tmp_path / "out" / "kept.jsonl")}
        assert (done.kept, sum(name.startswith("small") for name in kept)) == (15, 5)
        if dataset == [small, large]:
            first = kept
    assert kept == first
    rules = read_rules({"rules": [{"sample": {"rows": 7, "by": "overlap"}}]})
    assert curate(large, tmp_path / "out", rules).kept == 7


def test_decontamination_and_reference_margins(tmp_path: Path) -> None:
    rows = varied(6)
    evaluation = written(tmp_path, [{"Question": rows[2]["prompt"]}], "eval.jsonl")
    assert left_out(tmp_path, rows, [{"decontaminate": {"against": [evaluation]}}]) == [
        ("set.jsonl:3", "decontaminate")
    ]
    margins = [{"id": f"set.jsonl:{n}", "margin": margin} for n, margin in enumerate((3, 0.2, -4, 1.0, -0.9), 1)]
    written(tmp_path, margins, "margins.jsonl")
    rule: dict[str, dict[str, Any]] = {"reference_margin": {"file": str(tmp_path / "margins.jsonl"), "keep": ["hard"]}}
    assert left_out(tmp_path, rows, [rule]) == [(f"set.jsonl:{n}", "reference_margin") for n in (1, 3, 4, 6)]
    rule["reference_margin"]["without"] = True  # row 6 is not in the file
    assert left_out(tmp_path, rows, [rule]) == [(f"set.jsonl:{n}", "reference_margin") for n in (1, 3, 4)]
    (tmp_path / "margins.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(DataError, match=r"margins.jsonl, line 1: is not \{id, margin\}"):
        left_out(tmp_path, rows, [rule])


def test_answers_that_mean_the_same_are_left_out(tmp_path: Path) -> None:
    rows = [{**GOOD, "prompt": f"{n}?", "rejected": f"{GOOD['rejected']} {n}"} for n in range(4)]
    rows[1]["chosen"], rows[3]["chosen"] = "short", f"{GOOD['chosen']} like {rows[3]['rejected']}"
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Answers about somebody else point one way, all others another way."""
        asked.extend(texts)
        ways = [[0.0, 1.0] if "somebody else" in text else [1.0, 0.0] for text in texts]
        return np.array(ways, dtype=np.float32)

    path = written(tmp_path, rows)
    rules = read_rules({"rules": ["min_length", "embedding_difference"]})
    curate(path, tmp_path / "out", rules, embed=embed)
    assert [(row["origin"], row["rejected_by"]) for row in lines(tmp_path / "out" / "rejected.jsonl")] == [
        ("set.jsonl:2", "min_length"),
        ("set.jsonl:4", "embedding_difference"),
    ]
    assert len(asked) == 6  # two answers of each row that the earlier rule let through


def test_nothing_is_lost(tmp_path: Path) -> None:
    bad: list[Any] = [{**GOOD, "chosen": "short"}, {**GOOD, "rejected": GOOD["chosen"]}, {"prompt": "q"}, ["list"]]
    rows = [GOOD, *bad, {**GOOD, "note": "kept"}]
    done = curate(written(tmp_path, rows), tmp_path / "out", read_rules({"rules": ["min_length"]}))
    kept, rejected = lines(tmp_path / "out" / "kept.jsonl"), lines(tmp_path / "out" / "rejected.jsonl")
    assert {row["origin"] for row in kept} | {row["origin"] for row in rejected} == {
        f"set.jsonl:{n}" for n in range(1, 7)
    }
    assert len(kept) + len(rejected) == 6
    assert rejected[1] == {
        "origin": "set.jsonl:3",
        "rejected_by": "equal",
        "detail": f"chosen and rejected are equal: {GOOD['chosen'][:59]}…",
        "row": rows[2],
    }
    assert [(step.rule, step.before, step.left_out) for step in done.steps] == [("read", 6, 3), ("min_length", 3, 1)]
    assert kept[1]["note"] == "kept"
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert card["counts"] == {"kept": 2, "left_out": {"read": 3, "min_length": 1}}
    assert card["options"] == {"rules": [{"min_length": {"characters": 60}}]}
    assert "min_length" in (tmp_path / "out" / "funnel.svg").read_text()
    assert "min_length" in funnel_table(done.steps)
    # The folder is a dataset: its kept rows, and only they.
    loaded = load_records(str(tmp_path / "out"), kind=PreferencePair)
    assert [record.extra["origin"] for record in loaded.records] == ["set.jsonl:1", "set.jsonl:6"]


def test_the_first_rule_that_fails_is_the_reason_and_order_matters(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "prompt": "other", "chosen": "Bitch."}]
    assert left_out(tmp_path, rows, ["toxicity", "min_length"]) == [("set.jsonl:2", "toxicity")]
    assert left_out(tmp_path, rows, ["min_length", "toxicity"]) == [("set.jsonl:2", "min_length")]


def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.data.parallel._FEWEST_CHUNKS", 1)
    rows = varied(600) + [{**row, "chosen": "short"} for row in varied(50)]
    path = written(tmp_path, rows)
    rules = read_rules(preset="clean")
    curate(path, tmp_path / "one", rules, workers=1)
    curate(path, tmp_path / "two", rules, workers=2)
    for name in ("kept.jsonl", "rejected.jsonl", "funnel.svg", "data.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_presets_can_be_changed_rule_by_rule() -> None:
    rules = read_rules({"preset": "strong", "without": ["weak_phrases"], "rules": [{"min_length": {"characters": 9}}]})
    names = [rule.name for rule in rules]
    assert "weak_phrases" not in names
    assert names.index("min_length") == 2  # replaced in its place
    assert rules[2].model_dump() == {"characters": 9}
    assert [rule.name for rule in read_rules(preset="clean")] == [name for entry in PRESETS["clean"] for name in entry]


def test_two_presets_are_one_too_many() -> None:
    assert read_rules({"preset": "clean"}, preset="clean") == read_rules(preset="clean")
    with pytest.raises(ConfigError, match="names the preset 'clean', the command 'strong'; keep one of them"):
        read_rules({"preset": "clean"}, preset="strong")


def test_rules_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(
        "preset: clean\nwithout: near_duplicates\nrules:\n  - min_length:\n      characters: 5\n"
    )
    assert [rule.name for rule in read_rules(tmp_path / "rules.yaml")][-1] == "min_length"
    (tmp_path / "list.yaml").write_text("- min_length\n- overlap: {largest: 0.3}\n")
    assert [rule.model_dump() for rule in read_rules(tmp_path / "list.yaml")] == [{"characters": 60}, {"largest": 0.3}]


def test_paths_in_rules_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/me")
    against, margin, embedding = read_rules(
        {
            "rules": [
                {"decontaminate": {"against": ["~/e.jsonl", "f"]}},
                {"reference_margin": {"file": "~/m.jsonl"}},
                {"embedding_difference": {"model": "$HOME/m"}},
            ]
        }
    )
    assert against.model_dump()["against"] == ("/users/me/e.jsonl", "f")
    assert margin.model_dump()["file"] == "/users/me/m.jsonl"
    assert embedding.model_dump()["model"] == "/users/me/m"
    with pytest.raises(ConfigError, match=r"reference_margin.file: .*NOT_SET is not set"):
        read_rules({"rules": [{"reference_margin": {"file": "$NOT_SET/m"}}]})


def test_rules_are_read_as_configs_are(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - languages: {keep: [no, da]}\n")
    (rule,) = read_rules(path)
    assert rule.model_dump()["keep"] == ("no", "da")
    path.write_text("rules:\n  - overlap: {largest: 1e-1}\n")
    assert read_rules(path)[0].model_dump() == {"largest": 0.1}
    path.write_text("rules:\n  - overlap: {largest: 0.1, largest: 0.2}\n")
    with pytest.raises(ConfigError, match=r"rules\.yaml:2: largest is given twice, first on line 2"):
        read_rules(path)
    path.write_text("preset: clean\nrules: []\npreset: strong\n")
    with pytest.raises(ConfigError, match=r"rules\.yaml:3: preset is given twice, first on line 1"):
        read_rules(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        read_rules(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"rules": ["min_lenght"]}, "there is no rule 'min_lenght'; did you mean min_length"),
        ({"rules": [{"min_length": {"chars": 3}}]}, "min_length has no threshold 'chars'; it has characters"),
        ({"rules": [{"min_length": {"characters": "many"}}]}, "min_length.characters: Input should be a valid integer"),
        ({"rules": [{"min_length": 60}]}, "min_length must be followed by"),
        ({"rules": [{"a": 1, "b": 2}]}, "a rule is a name or one name"),
        ({"rules": "min_length"}, "rules must be a list"),
        ({"presets": "strong"}, "unknown key 'presets'"),
        ({"preset": "stronger"}, "unknown preset 'stronger'"),
        ({"preset": "clean", "without": ["overlap"]}, "without names 'overlap', which is not among the rules"),
        ({"preset": ["clean"]}, r"unknown preset \['clean'\]"),
        ({"rules": ["toxicity", {"toxicity": {"side": "any"}}]}, "rules names 'toxicity' twice"),
        ({}, "no rules; name a preset"),
        ({"rules": [{"decontaminate": {}}]}, "decontaminate.against: Field required"),
        ({"rules": [{"decontaminate": {"against": "e.jsonl"}}]}, "decontaminate.against: Input should be a list"),
    ],
)
def test_a_wrong_config_is_one_line(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_rules(config)
    assert "\n" not in str(caught.value)


def test_what_is_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path, [GOOD])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="was not written by palate data"):
        curate(path, tmp_path / "mine", read_rules(preset="clean"))
    with pytest.raises(DataError, match=r"no row is kept; most were left out by min_length \(1 of 1\)"):
        curate(path, tmp_path / "out", read_rules({"rules": [{"min_length": {"characters": 999}}]}))
    assert not (tmp_path / "out").exists()


def test_every_rule_has_a_name_and_help() -> None:
    for name, rule in RULES.items():
        assert (rule.__doc__ or "").strip()
        assert name == rule.name
        assert all(field.description for field in rule.model_fields.values())


def test_hh_to_strong_pairs(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = str(shared_data("preference/hh_harmless_base_test.jsonl.gz"))
    done = curate(source, tmp_path / "out", read_rules(preset="strong"))
    assert done.steps[0].before == 2312
    assert done.steps[0].left_out == 9
    assert [before.after == after.before for before, after in zip(done.steps, done.steps[1:])]
    assert 250 < done.kept < 450
    kept = load_records(str(tmp_path / "out"), kind=PreferencePair).records
    assert all(len(pair.chosen[0].content) > 60 < len(pair.rejected[0].content) for pair in kept)
