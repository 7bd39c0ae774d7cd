"""`palate eval bench` with a judge: MT-Bench, AlpacaEval and Arena-Hard on published questions and a fake judge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, endpoint, make_httpserver, shown, waits
from engines import BAD, GOOD, serving
from palate.artifacts import read_json, read_jsonl
from palate.cli.main import main
from runs import write_rows
from tiny import save_tiny

__all__ = ["endpoint", "make_httpserver", "waits"]

KILLED = """
import json, os, signal, sys
import transformers.models.llama.modeling_llama, transformers.models.llama.tokenization_llama
import openai, openai.resources.chat
import palate.evaluation.benchmarks, palate.report.pages.winrate
from palate.artifacts import JsonlWriter
from palate.cli.main import main
from palate.feedback.judges.cache import Judgements

def dies(target, name, after):
    real, seen = getattr(target, name), []
    def change(*given, **more):
        found = real(*given, **more)
        seen.append(1)
        if len(seen) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(target, name, change)

ends = []
for target, name, after in [
    (JsonlWriter, "write", 1), (JsonlWriter, "write", 3), (Judgements, "add", 1), (Judgements, "add", 3), (None, "", 0)
]:
    child = os.fork()
    if not child:
        if target is not None:
            dies(target, name, after)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(sys.argv[1:]))
    _, status = os.waitpid(child, 0)
    ends.append(os.waitstatus_to_exitcode(status))
print(json.dumps(ends))
"""


def answers(path: Path, text: str, ids: range = range(81, 161)) -> Path:
    """Answers to MT-Bench in the published format."""
    rows = [
        {
            "question_id": n,
            "model_id": path.stem,
            "choices": [{"index": 0, "turns": [f"{text} {n}", f"{text} encore {n}"]}],
        }
        for n in ids
    ]
    return write_rows(path, rows)


def found(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The result as JSON, and what was said beside it."""
    assert main(["eval", "bench", *words, "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out), " ".join(said.err.split())


def last(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@pytest.fixture
def real(shared_data: Callable[[str], Path]) -> Path:
    return shared_data("benchmark")


@pytest.mark.usefixtures("waits")
def test_grades_with_a_judge_that_fails_sometimes(
    endpoint: ChatServer, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = answers(tmp_path / "good.jsonl", "zebra"), answers(tmp_path / "bad.jsonl", "quokka")
    broken = ["quokka encore 90"]

    def grade(body: dict[str, Any]) -> Any:
        text = last(body)
        if any(one in text for one in broken):
            return {"choices": []}
        if "zebra encore 100" in text:
            return "I would rather not."
        return "Rating: [[9]]" if "zebra" in text else "Rating: [[4]]" if "encore" in text else "Rating: [[6]]"

    endpoint.answer = grade
    words = ["mtbench", "--data", str(real), "--answers", str(bad), "--answers", str(good), "--judge", "openai:m"]
    words += ["--output", str(tmp_path / "out")]
    result, said = found(capsys, *words, code=1)
    worse, better = result["models"]
    assert [(one["id"], one["reason"]) for one in worse["left_out"]] == [("90", "no_reply")]
    assert [(one["id"], one["reason"]) for one in better["left_out"]] == [("100", "unparsed")]
    assert "I would rather not" in better["left_out"][0]["detail"]
    assert "bad: 1 of 80 items are left out (no_reply 1); first 90" in said
    assert "1 item has no reply of the judge; run the same command again" in said
    overall = {one["metric"]: one["mean"] for one in worse["rates"] if one["category"] is None}
    assert {name: mean["estimate"] for name, mean in overall.items()} == {"score": 5.0, "turn1": 6.0, "turn2": 4.0}
    assert overall["score"]["n"] == 79
    [whole] = [one for one in result["comparisons"][0]["differences"] if one["category"] is None]
    assert (whole["test"], whole["difference"]["estimate"], whole["difference"]["n"]) == ("paired_t_bca", 4.0, 78)
    assert len([one for one in worse["rates"] if one["category"] is not None]) == 8
    assert "13 of the reference answers" in result["notes"][0]
    # Again: only what failed is asked; an unreadable reply is a reply.
    before, broken[:] = len(endpoint.requests), []
    result, _ = found(capsys, *words)
    assert [last(body).count("quokka encore 90") for body in endpoint.requests[before:]] == [1]
    assert not result["models"][0]["left_out"]
    # Another question to the judge asks again, but only where it differs: 13 references of two turns and two models.
    before = len(endpoint.requests)
    found(capsys, *words, "--references", "checked")
    assert len(endpoint.requests) - before == 13 * 4


@pytest.mark.usefixtures("waits")
def test_pairs_in_both_orders(
    endpoint: ChatServer, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = answers(tmp_path / "good.jsonl", "zebra"), answers(tmp_path / "bad.jsonl", "quokka")
    words = ["mtbench", "--data", str(real), "--answers", str(good), "--baseline", str(bad), "--pairwise"]
    words += ["--judge", "openai:m", "--max-samples", "10"]
    endpoint.answer = lambda _: "First. [[A]]"
    result, said = found(capsys, *words, "--output", str(tmp_path / "first"))
    [model] = result["models"]
    assert model["winrate"]["win_rate"]["estimate"] == 0.5
    assert model["winrate"]["inconsistent"] == 20
    assert model["winrate"]["win_rate"]["n"] == 10  # questions, of two turns each
    assert "the verdicts prefer the answer shown first" in said

    def by_truth(body: dict[str, Any]) -> str:
        text = last(body)
        if "zebra encore 100" in text:
            return "[[A]] or [[B]]"
        right, wrong = (re.search(rf"{word} (encore )?\d+\n", text) for word in ("zebra", "quokka"))
        assert right is not None
        assert wrong is not None
        return "[[A]]" if right.start() < wrong.start() else "[[B]]"

    endpoint.answer = by_truth
    out = tmp_path / "truth"
    more = ["--output", str(out), "--seed", "1", "--store", f"sqlite:///{tmp_path / 'other.db'}"]
    result, _ = found(capsys, *[word if word != "10" else "80" for word in words], *more)
    [model] = result["models"]
    assert model["winrate"]["win_rate"]["estimate"] == 1.0
    # One turn without a verdict: the question counts on neither.
    assert model["winrate"]["counts"] == {"judged": 158, "same_answer": 0, "unparsed": 2, "missing": 0}
    assert [one["id"] for one in model["left_out"]] == ["100"]
    assert "contradicting labels" in model["left_out"][0]["detail"]
    assert len(model["items"]) == 79
    assert (out / "good" / "report.html").is_file()
    asked = Counter(last(body) for body in endpoint.requests[40:])
    assert len(asked) == 320
    assert set(asked.values()) == {1}


def test_arena_hard_has_a_baseline_for_each_category(
    endpoint: ChatServer, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"h1": "hard_prompt", "h2": "hard_prompt", "c1": "creative_writing"}
    questions = [{"uid": n, "category": kind, "subcategory": "x", "prompt": f"do {n}"} for n, kind in kinds.items()]
    data = write_rows(tmp_path / "question.jsonl", questions)

    def recorded(name: str, text: str) -> str:
        rows = [
            {"uid": n, "model": name, "messages": [{"role": "assistant", "content": {"answer": f"{text} {n}"}}]}
            for n in kinds
        ]
        return str(write_rows(tmp_path / f"{name}.jsonl", rows))

    mine = recorded("mine", "mine")
    bases = [recorded("o3-mini-2025-01-31", "hard base"), recorded("gemini-2.0-flash-001", "creative base")]

    def compare(body: dict[str, Any]) -> str:
        own_first = shown(body, "answer A").startswith("mine")
        other = shown(body, "answer B" if own_first else "answer A")
        assert other.startswith("creative" if shown(body, "prompt") == "do c1" else "hard")
        if other == "hard base h1":  # much better, then a little
            return "It is. [[A>>B]]" if own_first else "[[B>A]]"
        return "[[A=B]]" if other == "hard base h2" else "[[B>A]]" if own_first else "[[A>>B]]"

    endpoint.answer = compare
    words = [
        "arenahard",
        "--data",
        str(data),
        "--answers",
        mine,
        "--judge",
        "openai:m",
        "--output",
        str(tmp_path / "o"),
    ]
    with_model = [str(model) if word == mine else word for word in words if word != "--answers"]
    for case in (words, with_model):
        assert main(["eval", "bench", *case]) == 2
        assert "compares with a baseline; name it with --baseline" in capsys.readouterr().err
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir()), "the model answered first"
    result, said = found(capsys, *words, "--baseline", bases[0], "--baseline", bases[1])
    [one] = result["models"]
    assert {item["id"]: item["scores"]["win_rate"] for item in one["items"]} == {"h1": 1.0, "h2": 0.5, "c1": 0.0}
    # (3 + 1) + 1 of 4 + 2 + 4
    assert one["published"][0]["estimate"] == pytest.approx(5 / 10)
    assert [part["name"] for part in one["published"]] == [
        "win_rate", "win_rate, hard_prompt", "win_rate, creative_writing",
    ]  # fmt: skip
    assert one["winrate"]["length_and_style_controlled"] is not None
    assert "the data has 3 questions, Arena-Hard v2 has 750" in said
    assert len(endpoint.requests) == 6


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Files under `tmp_path / "hub"` in place of the hub's; what was downloaded."""
    asked: list[tuple[str, str, str]] = []

    def download(repo_id: str, filename: str, *, repo_type: str) -> str:
        asked.append((repo_type, repo_id, filename))
        path = tmp_path / "hub" / filename
        if not path.exists():
            raise OSError("404 Client\nError")
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return asked


def test_questions_and_baselines_of_the_hub(
    hub: list[tuple[str, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hub" / "data" / "arena-hard-v2.0"
    kinds = {"h": "hard_prompt", "c": "creative_writing"}
    (folder / "model_answer").mkdir(parents=True)
    questions = [{"uid": n, "category": kind, "prompt": f"do {n}"} for n, kind in kinds.items()]
    write_rows(folder / "question.jsonl", questions)

    def model(path: Path, text: str) -> str:
        rows = [{"uid": n, "model": path.stem, "messages": [{"content": {"answer": text}}]} for n in kinds]
        return str(write_rows(path, rows))

    model(folder / "model_answer" / "o3-mini-2025-01-31.jsonl", "long" * 9)
    model(folder / "model_answer" / "gemini-2.0-flash-001.jsonl", "b")
    words = ["arenahard", "--answers", model(tmp_path / "mine.jsonl", "mine"), "--judge", "length:longer"]
    result, _ = found(capsys, *words, "--output", str(tmp_path / "out"))
    [one] = result["models"]
    assert {item["id"]: item["scores"]["win_rate"] for item in one["items"]} == {"h": 0.0, "c": 1.0}
    repo, place = ("dataset", "lmarena-ai/arena-hard-auto"), "data/arena-hard-v2.0"
    names = ["question", "model_answer/o3-mini-2025-01-31", "model_answer/gemini-2.0-flash-001"]
    assert hub == [(*repo, f"{place}/{name}.jsonl") for name in names]
    # Questions of one's own: nothing is downloaded, and a baseline has to be named.
    hub.clear()
    words += ["--data", str(folder / "question.jsonl"), "--output", str(tmp_path / "own")]
    assert main(["eval", "bench", *words]) == 2
    assert "name it with --baseline" in capsys.readouterr().err
    assert hub == []


def test_alpacaeval_of_the_hub(
    hub: list[tuple[str, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": f"say {n}", "output": "x" * n, "generator": "gpt4", "dataset": "koala"} for n in (1, 5)]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps([{**row, "output": "yyy", "generator": "mine"} for row in rows]))
    words = ["alpacaeval", "--answers", str(mine), "--judge", "length:longer", "--output", str(tmp_path / "out")]
    assert main(["eval", "bench", *words]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "tatsu-lab/alpaca_eval: the hub did not give alpaca_eval_gpt4_baseline.json (404 Client Error)" in said
    assert "name files with --data" in said
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(rows))
    result, _ = found(capsys, *words)
    assert {item["id"]: item["scores"]["win_rate"] for item in result["models"][0]["items"]} == {"1": 1.0, "2": 0.0}
    assert result["data"][0]["name"] == "alpaca_eval_gpt4_baseline.json"
    assert set(hub) == {("dataset", "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json")}


def test_mtbench_of_the_hub_lacks_the_questions_to_the_judge(
    hub: list[tuple[str, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hub" / "data" / "mt_bench"
    folder.mkdir(parents=True)
    write_rows(folder / "question.jsonl", [{"question_id": 81, "category": "writing", "turns": ["Write.", "Shorter."]}])
    words = ["mtbench", "--answers", str(answers(tmp_path / "a.jsonl", "a", range(81, 82)))]
    assert main(["eval", "bench", *words, "--judge", "openai:m", "--output", str(tmp_path / "out")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "give judge_prompts.jsonl and mt_bench/reference_answer/gpt-4.jsonl of fastchat/llm_judge/data" in said
    (tmp_path / "judge.py").write_text("def seven(prompts, completions):\n    return [7.0] * len(prompts)\n")
    result, _ = found(capsys, *words, "--judge", f"{tmp_path / 'judge.py'}:seven", "--output", str(tmp_path / "out"))
    assert result["models"][0]["items"][0]["scores"]["score"] == 7.0
    assert set(hub) == {("space", "lmsys/mt-bench", "data/mt_bench/question.jsonl")}


def test_alpacaeval_with_a_judge_that_fails_on_three_percent(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'palate.db'}")
    rows = read_json_list(real / "alpacaeval_805_example_outputs.json")
    own = [
        {**row, "generator": "mine", "output": f"{row['output']} more" if n % 2 else "less"}
        for n, row in enumerate(rows)
    ]
    (tmp_path / "mine.json").write_text(json.dumps(own[:-5]))
    (tmp_path / "judge.py").write_text(
        "def longer(prompts, completions):\n"
        "    odd = [len(prompt[0].content) % 32 == 0 for prompt in prompts]\n"
        "    return [None if skip else len(text) for skip, text in zip(odd, completions)]\n"
    )
    skipped = sum(len(row["instruction"]) % 32 == 0 for row in rows[:-5])
    assert 0.02 < skipped / 805 < 0.05
    words = ["alpacaeval", "--data", str(real), "--answers", str(tmp_path / "mine.json")]
    words += ["--judge", f"{tmp_path / 'judge.py'}:longer", "--output", str(tmp_path / "out")]
    result, said = found(capsys, *words)
    [model] = result["models"]
    assert model["winrate"]["counts"]["unparsed"] == skipped
    assert Counter(one["reason"] for one in model["left_out"]) == {"unparsed": skipped, "no_answer": 5}
    assert f"{skipped + 5} of 805 items are left out (" in said
    assert f"{skipped + 5} of 805 items have no verdict; if A had lost or won all of them" in said
    assert model["rates"][0]["mean"]["n"] == 800 - skipped
    assert len([one for one in model["rates"] if one["category"]]) == 5
    # One order of each, and the figures of its own program.
    result, _ = found(capsys, *words[:-1], str(tmp_path / "one"), "--compat", "alpaca_eval")
    [model] = result["models"]
    votes = read_jsonl(tmp_path / "one" / "mine" / "votes.jsonl")
    assert len(votes) == 800
    assert 350 < sum(vote["shown"] == "left_first" for vote in votes) < 450
    assert [one["name"] for one in model["published"]] == ["win_rate", "length_controlled_winrate"]
    assert model["published"][1]["interval"] is None
    monkeypatch.setattr("palate.cli.columns.text_width", lambda: 80)
    assert main(["eval", "bench", *words[:-1], str(tmp_path / "one"), "--compat", "alpaca_eval"]) == 0
    shown_text = capsys.readouterr().out
    assert max(map(len, shown_text.splitlines())) <= 80
    assert "mine, as the benchmark's own program defines it" in shown_text
    assert "lc_standard_error is not used" in " ".join(shown_text.split())


def read_json_list(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_json(path)
    return rows


@pytest.mark.slow
def test_nothing_is_asked_twice_after_kills(
    endpoint: ChatServer,
    real: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint.answer = lambda body: f"Rating: [[{1 + len(last(body)) % 10}]]"
    model = save_tiny(tmp_path / "model", initializer_range=0.2, max_position_embeddings=8192)
    words = ["mtbench", str(model), "--data", str(real), "--judge", "openai:m", "--max-samples", "4", "--seed", "3"]
    words += ["--max-new-tokens", "6", "--precision", "fp32", "--template", "chatml", "--in-flight", "1"]
    killed = [*words, "--output", str(tmp_path / "killed")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "eval", "bench", *killed], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [-9, -9, -9, -9, 0], done.stderr
    asked = Counter(last(body) for body in endpoint.requests)
    assert (len(asked), set(asked.values())) == (8, {1})
    rows = [row["id"] for path in sorted((tmp_path / "killed" / "answers").iterdir()) for row in read_jsonl(path)]
    assert sorted(Counter(rows).values()) == [2, 2, 2, 2]  # a row for each turn
    monkeypatch.setenv("PALATE_STORE", f"sqlite:///{tmp_path / 'whole.db'}")
    whole, _ = found(capsys, *words, "--output", str(tmp_path / "whole"))
    assert read_json(tmp_path / "killed" / "bench-mtbench.json") == whole
    assert "an answer ends at the longest length in 4 questions" in whole["models"][0]["notes"][0]
    # A limit that two of the prompts exceed, the second turn of one included: named, and not in the mean.
    judge = tmp_path / "judge.py"
    judge.write_text("def seven(prompts, completions):\n    return [7 for _ in completions]\n")
    words[words.index("openai:m") - 1 : words.index("openai:m") + 1] = ["--judge", f"{judge}:seven"]
    words = [word for word in words if word not in ("--in-flight", "1")]
    short, said = found(capsys, *words, "--output", str(tmp_path / "short"), "--cutoff-len", "300")
    [one] = short["models"]
    assert {left["reason"] for left in one["left_out"]} == {"too_long"}
    assert 0 < len(one["left_out"]) < 4
    assert one["rates"][0]["mean"]["n"] == 4 - len(one["left_out"])
    assert "limit 300" in said


def test_an_engine_answers_the_second_turn_after_its_own_first_answer(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "judge.py").write_text("def seven(prompts, completions):\n    return [7 for _ in completions]\n")
    with serving() as engine:
        words = ["mtbench", f"openai:a@{engine.url}", "--data", str(real), "--max-samples", "12"]
        words += ["--judge", f"{tmp_path / 'judge.py'}:seven", "--output", str(tmp_path / "out")]
        result, _ = found(capsys, *words)
        first, second = ([chat for chat in engine.chats if len(chat["messages"]) == count] for count in (1, 3))
        assert (len(first), len(second), len(engine.chats)) == (12, 12, 24)
        texts = {chat["messages"][0]["content"] for chat in first}
        for chat in second:
            roles = [message["role"] for message in chat["messages"]]
            assert roles == ["user", "assistant", "user"]
            assert chat["messages"][0]["content"] in texts
            assert chat["messages"][1]["content"] in (GOOD, BAD)
        # 1,024 tokens, and the temperature of the category.
        assert {chat["max_tokens"] for chat in engine.chats} == {1024}
        heats = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
        expected = Counter(heats.get(item["category"], 0.0) for item in result["models"][0]["items"])
        assert Counter(chat["temperature"] for chat in first) == expected
        again, _ = found(capsys, *words)
        assert (again, len(engine.chats)) == (result, 24)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mtbench", "--answers", "{good}"], "MT-Bench needs a judge; name one with --judge"),
        (["mtbench", "--judge", "length"], "name the models to measure with MT-Bench, or files of answers"),
        (["mtbench", "--answers", "{good}", "--judge", "length"], "gave -8; a grade is from 1 to 10, or None"),
        (["mtbench", "--answers", "{good}", "--judge", "length", "--baseline", "x"], "need none; it is for --pairwise"),
        (["mtbench", "--answers", "{good}", "--judge", "length", "--compat", "alpaca_eval"], "is for AlpacaEval, not"),
        (["mtbench", "--answers", "{good}", "--judge", "length", "--prompt", "plain"], "MT-Bench has only chat"),
        (["mtbench", "--answers", "{good}", "--answers", "{good}", "--judge", "length"], "two models are called good"),
        (["mtbench", "--answers", "{twice}", "--judge", "length"], "row 2: answers question 81 of"),
        (["mtbench", "--answers", "{other}", "--judge", "length"], "answers no question of MT-Bench"),
        (
            ["alpacaeval", "--answers", "{good}", "--judge", "length", "--pairwise"],
            "for MT-Bench, not for AlpacaEval",
        ),
        (["mtbench", "--answers", "{good}", "--judge", "openai:m", "--judge-prompt", "score"], "is for alpacaeval"),
        (["mtbench", "--answers", "{good}", "--judge", "openai:m", "--commit-first"], "for palate's own questions"),
        (
            [
                "mtbench",
                "{model}",
                "--baseline",
                "{good}",
                "--judge",
                "jury:length:longer,length:shorter",
                "--pairwise",
            ],
            "a jury cannot compare second turns",
        ),
        (["xstest", "x", "--judge", "length"], "answers to XSTest are labelled by a chat model"),
        (["xstest", "x", "--max-requests", "3"], "options of judges over an API need --judge"),
    ],
)
def test_one_clear_line(
    words: list[str], message: str, real: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "model": model,
        "good": answers(tmp_path / "good.jsonl", "zebra"),
        "other": answers(tmp_path / "o.jsonl", "x", range(3)),
    }
    files["twice"] = write_rows(tmp_path / "twice.jsonl", read_jsonl(files["good"])[:1] * 2)
    given = [word.format(**files) for word in words]
    assert main(["eval", "bench", *given, "--data", str(real), "--output", str(tmp_path / "out")]) in (1, 2)
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "answers").exists(), "a model answered first"


def test_failed_requests_are_no_answers(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FastChat records `$ERROR$` where a request failed; a missing row and it are named, not judged."""
    rows = read_jsonl(answers(tmp_path / "good.jsonl", "zebra"))[:-1]
    rows[3]["choices"][0]["turns"][1] = "$ERROR$"
    write_rows(tmp_path / "good.jsonl", rows)
    (tmp_path / "judge.py").write_text("def seven(prompts, completions):\n    return [7 for _ in completions]\n")
    words = ["mtbench", "--answers", str(tmp_path / "good.jsonl"), "--judge", f"{tmp_path / 'judge.py'}:seven"]
    result, said = found(capsys, *words, "--data", str(real), "--output", str(tmp_path / "out"))
    [model] = result["models"]
    assert [(one["id"], one["reason"]) for one in model["left_out"]] == [("84", "no_answer"), ("160", "no_answer")]
    assert "row 4: the answer is $ERROR$" in model["left_out"][0]["detail"]
    assert model["rates"][0]["mean"]["n"] == 78
    assert "good: 2 of 80 items are left out (no_answer 2)" in said
