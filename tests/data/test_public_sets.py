"""Public preference sets as their cards describe them, three rows each in words of our own: read right, or refused."""

# ruff: noqa: E501  (rows as their cards write them)

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from palate.data import load_records
from palate.errors import DataError
from palate.records import LabelledCompletion, PreferencePair, Ranking, Record


@dataclass(frozen=True)
class PublicSet:
    """Three rows of a set, and the pairs they are: prompt's last turn, chosen and rejected, each row used in order."""

    name: str
    rows: list[dict[str, Any]]
    pairs: list[tuple[str, str, str]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    margins: list[float | None] | None = None
    refused: str = ""
    columns: dict[str, str] | None = None


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]


def tree(text: str, *replies: dict[str, Any], rank: int | None = None, role: str = "assistant") -> dict[str, Any]:
    return {"message_id": text, "text": text, "role": role, "rank": rank, "deleted": False, "replies": list(replies)}


def asked(text: str, *replies: dict[str, Any]) -> dict[str, Any]:
    return tree(text, *replies, role="prompter")


PLAIN = [("q0", "good 0", "bad 0"), ("q1", "good 1", "bad 1"), ("q2", "good 2", "bad 2")]

SETS = [
    PublicSet(
        "PandaLM, test set",
        [
            {"idx": n, "motivation_app": "app", "cmp_key": "x_y", "instruction": f"q{n}", "input": "",
             "response1": one, "response2": two, "annotator1": votes[0], "annotator2": votes[1], "annotator3": votes[2]}
            for n, (one, two, votes) in enumerate(
                [("good 0", "bad 0", (1, 1, 0)), ("bad 1", "good 1", (2, 1, 2)), ("good 2", "bad 2", (1, 1, 1))]
            )
        ],
        PLAIN,
        margins=[2, 1, 3],
    ),
    PublicSet(
        "WebGPT comparisons",
        [
            {"question": {"dataset": "eli5", "id": str(n), "full_text": f"q{n}"},
             "quotes_0": {"title": ["t"], "extract": ["e"]}, "answer_0": one, "tokens_0": {"prefix": [1], "completion": [2]},
             "score_0": score, "quotes_1": {"title": [], "extract": []}, "answer_1": two,
             "tokens_1": {"prefix": [1], "completion": [3]}, "score_1": -score}
            for n, (one, two, score) in enumerate([("good 0", "bad 0", 0.5), ("bad 1", "good 1", -1.0), ("a", "b", 0.0)])
        ],
        PLAIN[:2],
        {"tie": 1},
        margins=[1.0, 2.0],
    ),
    PublicSet(
        "OpenAssistant oasst1, trees",
        [
            {"message_tree_id": "0", "tree_state": "ready_for_export",
             "prompt": asked("q0", tree("bad 0", rank=1), tree("good 0", rank=0))},
            {"message_tree_id": "1", "tree_state": "ready_for_export",
             "prompt": asked("q", tree("a", asked("q1", tree("good 1", rank=0), tree("bad 1", rank=1))))},
            {"message_tree_id": "2", "tree_state": "ready_for_export",
             "prompt": asked("q2", tree("good 2", rank=0), tree("middle", rank=1), tree("bad 2", rank=2))},
        ],
        PLAIN,
    ),
    PublicSet(
        "OpenAssistant oasst1, flat messages",
        [
            {"message_id": "a", "parent_id": None, "text": "q", "role": "prompter", "rank": None, "message_tree_id": "a"},
            {"message_id": "b", "parent_id": "a", "text": "x", "role": "assistant", "rank": 0.0, "message_tree_id": "a"},
            {"message_id": "c", "parent_id": "a", "text": "y", "role": "assistant", "rank": 1.0, "message_tree_id": "a"},
        ],
        refused="lack|not recognised",
    ),
    PublicSet(
        "LMArena human preference 55k",
        [
            {"id": n, "model_a": "x", "model_b": "y", "prompt": json.dumps([f"q{n}"]), "response_a": json.dumps([one]),
             "response_b": json.dumps([two]), "winner_model_a": a, "winner_model_b": b, "winner_tie": tie}
            for n, (one, two, a, b, tie) in enumerate(
                [("good 0", "bad 0", 1, 0, 0), ("bad 1", "good 1", 0, 1, 0), ("a", "b", 0, 0, 1)]
            )
        ],
        PLAIN[:2],
        {"tie": 1},
    ),
    PublicSet(
        "LMArena human preference 140k",
        [
            {"id": str(n), "model_a": "x", "model_b": "y", "winner": winner, "evaluation_session_id": "s",
             "conversation_a": [{"role": "user", "content": [{"type": "text", "text": f"q{n}"}]},
                                {"role": "assistant", "content": [{"type": "text", "text": one}]}],
             "conversation_b": [{"role": "user", "content": [{"type": "text", "text": f"q{n}"}]},
                                {"role": "assistant", "content": [{"type": "text", "text": two}]}],
             "language": "en", "is_code": False}
            for n, (one, two, winner) in enumerate(
                [("good 0", "bad 0", "model_a"), ("bad 1", "good 1", "model_b"), ("a", "b", "both_bad")]
            )
        ],
        PLAIN[:2],
        {"tie": 1},
    ),
    PublicSet(
        "Chatbot Arena conversations",
        [
            {"question_id": str(n), "model_a": "x", "model_b": "y", "winner": winner, "judge": "arena_user_1",
             "conversation_a": turns(f"q{n}", one), "conversation_b": turns(f"q{n}", two), "turn": 1, "anony": True,
             "language": "English"}
            for n, (one, two, winner) in enumerate(
                [("good 0", "bad 0", "model_a"), ("bad 1", "good 1", "model_b"), ("a", "b", "tie (bothbad)")]
            )
        ],
        PLAIN[:2],
        {"tie": 1},
    ),
    PublicSet(
        "MT-Bench human judgments",
        [
            {"question_id": n, "model_a": "x", "model_b": "y", "winner": "model_b", "judge": "expert_1", "turn": turn,
             "conversation_a": turns("q", "a", "q2", "a2"), "conversation_b": turns("q", "b", "q2", "b2")}
            for n, turn in enumerate([1, 2, 1])
        ],
        refused="no row can be used: diverges 3",
    ),
    PublicSet(
        "Nectar",
        [
            {"prompt": f"\n\nHuman: q{n}\n\nAssistant: ", "num_responses": 3, "turns": 1, "source": ["x"],
             "answers": [{"answer": f"bad {n}", "model": "x", "rank": 7.0}, {"answer": f"good {n}", "model": "y", "rank": 1.0},
                         {"answer": f"middle {n}", "model": "z", "rank": 4.0}], "good_natured": True}
            for n in range(3)
        ],
        PLAIN,
    ),
    PublicSet(
        "HelpSteer2, preference",
        [
            {"split": "train", "prompt": f"q{n}", "response_1": one, "response_2": two, "preference_strength": strength,
             "preference_statement": "s", "preference_elaboration": "e", "all_preferences_unprocessed": [{"strength": 1}]}
            for n, (one, two, strength) in enumerate([("good 0", "bad 0", -1), ("bad 1", "good 1", 3), ("a", "b", 0)])
        ],
        PLAIN[:2],
        {"tie": 1},
        margins=[1, 3],
    ),
    PublicSet(
        "HelpSteer2, ratings of one answer a row",
        [
            {"prompt": "q", "response": f"answer {n}", "helpfulness": n, "correctness": 3, "coherence": 4, "complexity": 2,
             "verbosity": 1}
            for n in range(3)
        ],
        refused="which cannot become pairs; palate data convert --kind pairs compares the rows of one prompt",
    ),
    PublicSet(
        "HelpSteer3",
        [
            {"domain": "code", "language": "python", "context": turns("hello", "hi", f"q{n}"), "response1": one,
             "response2": two, "overall_preference": strength,
             "individual_preference": [{"score": strength, "reasoning": "r", "feedback1": "f", "feedback2": "g"}]}
            for n, (one, two, strength) in enumerate([("good 0", "bad 0", -2), ("bad 1", "good 1", 1), ("good 2", "bad 2", -3)])
        ],
        PLAIN,
        margins=[2, 1, 3],
    ),
    PublicSet(
        "SHP-2",
        [
            {"post_id": str(n), "domain": "askx_train", "upvote_ratio": 0.9, "history": f"q{n}", "c_root_id_A": "a",
             "c_root_id_B": "b", "created_at_utc_A": 1, "created_at_utc_B": 2, "score_A": a, "score_B": b,
             "human_ref_A": one, "human_ref_B": two, "labels": label, "metadata_A": "", "metadata_B": "",
             "seconds_difference": 9.0, "score_ratio": 2.0}
            for n, (one, two, a, b, label) in enumerate(
                [("good 0", "bad 0", 9, 4, 1), ("bad 1", "good 1", 2, 8, 0), ("good 2", "bad 2", 6, 3, 1)]
            )
        ],
        PLAIN,
        margins=[5, 6, 3],
    ),
    PublicSet(
        "UltraInteract_pair",
        [
            {"task": "Math", "dataset": "x", "trajectory": [{"from": "user", "value": f"q{n}"}], "chosen": f"good {n}",
             "rejected": f"bad {n}", "id": str(n), "parent_id": "p"}
            for n in range(3)
        ],
        PLAIN,
    ),
    PublicSet(
        "orca_dpo_pairs",
        [{"system": "be brief", "question": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(3)],
        PLAIN,
    ),
    PublicSet(
        "distilabel-intel-orca-dpo-pairs",
        [
            {"system": "", "input": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}", "rating": "[9, 3]",
             "generations": [f"good {n}", f"bad {n}"], "order": ["chosen", "rejected"], "status": "unchanged"}
            for n in range(3)
        ],
        PLAIN,
        columns={"prompt": "input"},
    ),
    PublicSet(
        "distilabel-capybara-dpo",
        [
            {"source": "x", "conversation": [{"input": f"q{n}", "output": f"good {n}"}], "original_response": f"good {n}",
             "generation_prompt": [f"q{n}"], "raw_generation_responses": ["r"], "new_generations": [f"bad {n}"],
             "prompt": f"q{n}", "chosen": turns(f"q{n}", f"good {n}"), "rejected": turns(f"q{n}", f"bad {n}"),
             "rating_chosen": 5, "rating_rejected": 3, "chosen_model": "x", "rejected_model": "y"}
            for n in range(3)
        ],
        PLAIN,
        margins=[2, 2, 2],
    ),
    PublicSet(
        "py-dpo",
        [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}", "id": n} for n in range(3)],
        PLAIN,
    ),
    PublicSet(
        "Prometheus preference-collection",
        [
            {"orig_criteria": "c", "orig_feedback": "f", "orig_instruction": f"q{n}", "orig_preference": better,
             "orig_reference_answer": "r", "orig_response_A": one, "orig_response_B": two, "orig_score_A": "5",
             "orig_score_B": "3", "instruction": "### Task", "output": f"Feedback: … [RESULT] {better}"}
            for n, (one, two, better) in enumerate([("good 0", "bad 0", "A"), ("bad 1", "good 1", "B"), ("good 2", "bad 2", "A")])
        ],
        refused="which cannot become pairs",
    ),
    PublicSet(
        "Prometheus preference-collection, columns mapped",
        [
            {"orig_instruction": f"q{n}", "orig_preference": better, "orig_response_A": one, "orig_response_B": two,
             "instruction": "### Task", "output": f"Feedback: … [RESULT] {better}"}
            for n, (one, two, better) in enumerate([("good 0", "bad 0", "A"), ("bad 1", "good 1", "B"), ("good 2", "bad 2", "A")])
        ],
        PLAIN,
        columns={"prompt": "orig_instruction", "response_a": "orig_response_A", "response_b": "orig_response_B",
                 "preference": "orig_preference"},
    ),
    PublicSet(
        "CodeUltraFeedback",
        [
            {"instruction": f"q{n}", "responses": [{"model": "x", "response": f"good {n}"}, {"model": "y", "response": f"bad {n}"}],
             "preference": "readability", "annotations": {"x": [{"rating": "5"}], "y": [{"rating": "2"}]}}
            for n in range(3)
        ],
        refused="columns found: instruction, responses, preference, annotations",
    ),
    PublicSet(
        "summarize_from_feedback, comparisons",
        [
            {"info": {"id": str(n), "post": f"q{n}", "title": "t", "subreddit": "s", "site": None, "article": None},
             "summaries": [{"text": one, "policy": "x", "note": None}, {"text": two, "policy": "y", "note": None}],
             "choice": choice, "worker": "w", "batch": "b", "split": "train", "extra": {"confidence": 7}}
            for n, (one, two, choice) in enumerate([("good 0", "bad 0", 0), ("bad 1", "good 1", 1), ("good 2", "bad 2", 0)])
        ],
        PLAIN,
    ),
    PublicSet(
        "Tulu 3 preference mixture",
        [
            {"id": str(n), "source": "x", "prompt": f"q{n}", "chosen": turns(f"q{n}", f"good {n}"),
             "rejected": turns(f"q{n}", f"bad {n}")}
            for n in range(3)
        ],
        PLAIN,
    ),
    PublicSet(
        "dpo-mix-7k",
        [
            {"dataset": "x", "chosen": turns(f"q{n}", f"good {n}"), "rejected": turns(f"q{n}", f"bad {n}"),
             "chosen_rating": 5.0, "rejected_rating": 2.5}
            for n in range(3)
        ],
        PLAIN,
        margins=[2.5, 2.5, 2.5],
    ),
    PublicSet(
        "Skywork reward preference",
        [{"source": "x", "chosen": turns(f"q{n}", f"good {n}"), "rejected": turns(f"q{n}", f"bad {n}")} for n in range(3)],
        PLAIN,
    ),
    PublicSet(
        "BeaverTails preference",
        [
            {"prompt": f"q{n}", "response_0": one, "response_1": two, "is_response_0_safe": True,
             "is_response_1_safe": True, "better_response_id": better, "safer_response_id": better}
            for n, (one, two, better) in enumerate([("good 0", "bad 0", 0), ("bad 1", "good 1", 1), ("good 2", "bad 2", 0)])
        ],
        PLAIN,
    ),
    PublicSet(
        "Vicuna reviews",
        [
            {"review_id": str(n), "question_id": n, "answer1_id": "a", "answer2_id": "b", "reviewer_id": 1,
             "metadata": {}, "text": "8 6", "score": [8, 6]}
            for n in range(3)
        ],
        refused="which cannot become pairs",
    ),
    PublicSet(
        "Vicuna reviews, joined with questions and answers",
        [
            {"question": f"q{n}", "answer1": one, "answer2": two, "review": "r", "score": score}
            for n, (one, two, score) in enumerate([("good 0", "bad 0", [8, 6]), ("bad 1", "good 1", [5, 9.5]), ("a", "b", [7, 7])])
        ],
        PLAIN[:2],
        {"tie": 1},
        margins=[2, 4.5],
    ),
    PublicSet(
        "alpaca_farm human preference",
        [
            {"instruction": f"q{n}", "input": "", "output_1": one, "output_2": two, "preference": better, "raw_preference": 1}
            for n, (one, two, better) in enumerate([("good 0", "bad 0", 1), ("bad 1", "good 1", 2), ("good 2", "bad 2", 1)])
        ],
        PLAIN,
    ),
]  # fmt: skip


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("public", SETS, ids=lambda public: public.name)
def test_pairs_of_a_public_set(tmp_path: Path, public: PublicSet) -> None:
    path = written(tmp_path, public.rows)
    if public.refused:
        with pytest.raises(DataError, match=public.refused) as caught:
            load_records(path, kind=PreferencePair, columns=public.columns)
        assert "\n" not in str(caught.value)
        return
    loaded = load_records(path, kind=PreferencePair, columns=public.columns)
    found = [(pair.prompt[-1].content, pair.chosen[-1].content, pair.rejected[-1].content) for pair in loaded.records]
    assert found == public.pairs
    assert loaded.sources[0].dropped_by_reason == public.dropped
    if public.margins is not None:
        assert [pair.margin for pair in loaded.records] == public.margins


def test_a_tree_gives_a_ranking_for_each_question(tmp_path: Path) -> None:
    answer = tree("good", asked("more", tree("worse", rank=1), tree("better", rank=0)), rank=0)
    rows = [
        {"message_tree_id": "0", "tree_state": "ready_for_export", "prompt": asked("q", tree("bad", rank=1), answer)}
    ]
    loaded = load_records(written(tmp_path, rows), kind=Ranking)
    assert [[message.content for message in record.prompt] for record in loaded.records] == [
        ["q"],
        ["q", "good", "more"],
    ]
    assert [[said[0].content for said in record.completions] for record in loaded.records] == [
        ["good", "bad"],
        ["better", "worse"],
    ]
    assert [record.id for record in loaded.records] == ["rows.jsonl:1#1", "rows.jsonl:1#2"]
    assert (loaded.sources[0].used, loaded.sources[0].records) == (1, 2)


def test_a_tree_with_an_unknown_speaker_is_listed(tmp_path: Path) -> None:
    replies = (tree("a", rank=0, role="moderator"), tree("b", rank=1))
    rows = [{"message_tree_id": "0", "prompt": asked("q", *replies)}]
    with pytest.raises(DataError, match=r"unknown_role 1.*a message of the tree has the role moderator"):
        load_records(written(tmp_path, rows), kind=Ranking)


def test_the_messages_of_a_tree_are_no_texts_to_train_on(tmp_path: Path) -> None:
    rows = [{"message_id": "a", "parent_id": None, "text": "q", "role": "prompter"}]
    with pytest.raises(DataError, match="no row has a prompt"):
        load_records(written(tmp_path, rows), kind=Record)


def test_kto_mix(tmp_path: Path) -> None:
    rows = [{"prompt": turns("q"), "completion": turns("q", "a")[1:], "label": label} for label in (True, False)]
    loaded = load_records(written(tmp_path, rows), kind=LabelledCompletion)
    assert [record.desirable for record in loaded.records] == [True, False]
