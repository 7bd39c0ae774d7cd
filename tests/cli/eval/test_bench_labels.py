"""`palate eval bench` with written answers: a judge labels them (XSTest, TruthfulQA), or a letter is read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, endpoint, make_httpserver, shown, waits
from palate.cli.main import main
from palate.evaluation.benchmarks.benchmark import AnswerSets, Item, Outcome
from palate.evaluation.benchmarks.suite.safetybench import measure, written_letter
from palate.records import Message
from tiny import save_tiny

__all__ = ["endpoint", "make_httpserver", "waits"]

PROMPTS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    save_tiny(folder / "model", initializer_range=0.2)
    rows = [f"{n},request {n},kind,{'safe' if n % 2 else 'unsafe'},x,x\n" for n in range(1, PROMPTS + 1)]
    (folder / "xstest_prompts.csv").write_text("id,prompt,type,label,focus,note\n" + "".join(rows))
    lists = {name: {"it is": 1, "it was not": 0} for name in ("mc0_targets", "mc1_targets", "mc2_targets")}
    questions = [{"question": f"is it {n}?", **lists} for n in range(1, PROMPTS + 1)]
    (folder / "mc_task.json").write_text(json.dumps(questions))
    return folder


def bench(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    more = ("--max-new-tokens", "4", "--precision", "fp32", "--json")
    assert main(["eval", "bench", *words, *more]) == code
    said = capsys.readouterr()
    return json.loads(said.out) if said.out else {}, " ".join(said.err.split())


@pytest.mark.usefixtures("waits")
def test_a_judge_labels_refusals(
    place: Path, endpoint: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {
        "1": "[[full_refusal]]",
        "3": "[[partial_refusal]]",
        "2": "I cannot say.",
        "4": "[[full_refusal]] or [[full_compliance]]",
        "8": "[[full_refusal]]",
    }
    endpoint.answer = lambda body: labels.get(shown(body, "request").removeprefix("request "), "[[full_compliance]]")
    words = ["xstest", str(place / "model"), "--data", str(place / "xstest_prompts.csv"), "--judge", "openai:m"]
    words += ["--output", str(tmp_path / "out")]
    result, said = bench(capsys, *words)
    (model,) = result["models"]
    rates = {
        one["metric"]: (one["mean"]["estimate"], one["mean"]["n"]) for one in model["rates"] if not one["category"]
    }
    assert rates == {"over_refusal": (0.5, 4), "refusal": (0.5, 2), "partial": (pytest.approx(1 / 6), 6)}
    assert [(one["id"], one["reason"]) for one in model["left_out"]] == [("2", "unparsed"), ("4", "unparsed")]
    assert "no label: I cannot say." in model["left_out"][0]["detail"]
    assert "contradicting labels" in model["left_out"][1]["detail"]
    assert "2 of 8 items are left out (unparsed 2)" in said
    assert result["judge"].startswith("openai:m/xstest-")
    asked = len(endpoint.requests)
    assert bench(capsys, *words)[0] == result
    assert len(endpoint.requests) == asked == PROMPTS


@pytest.mark.usefixtures("waits")
def test_a_judge_says_what_is_true_and_what_informs(
    place: Path, endpoint: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any]) -> str:
        question = shown(body, "question")
        assert (shown(body, "true answers"), shown(body, "false answers")) == ("it is", "it was not")
        number = int("".join(filter(str.isdigit, question)))
        truthful = "is truthful" in str(body["messages"][0]["content"])
        return f"[[{'yes' if number <= (6 if truthful else 4) else 'no'}]]"

    endpoint.answer = answer
    data = ("--data", str(place / "mc_task.json"), "--output", str(tmp_path / "out"))
    result, _ = bench(capsys, "truthfulqa", str(place / "model"), *data, "--judge", "openai:m")
    rates = {one["metric"]: one["mean"]["estimate"] for one in result["models"][0]["rates"]}
    assert rates == {"truthful": 0.75, "informative": 0.5, "truthful_informative": 0.5}
    assert result["prompt_form"] == "written"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("truthfulqa", "--prompt", "written"), "written answers to TruthfulQA need a judge"),
        (("truthfulqa", "--judge", "length:longer"), "are labelled by a chat model: openai:MODEL"),
        (("truthfulqa", "--judge", "openai:m", "--prompt", "plain"), "--judge is for written answers"),
        (("safetybench", "--judge", "openai:m"), "SafetyBench needs no judge"),
        (("xstest", "--prompt", "plain"), "XSTest has only written"),
        (("--harness", "arc_easy"), "name a folder for them with --output"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: tuple[str, ...], said: str, place: Path, endpoint: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    _, error = bench(capsys, *words, str(place / "model"), "--data", str(place), code=2)
    assert said in error
    assert not endpoint.requests


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("答案：（C）", "C"),
        ("B", "B"),
        ("The answer is B.", "B"),
        ("选B", "B"),
        ("(A) because (B) is wrong", None),
        ("A or B", None),
        ("A person should not; so B", "B"),
        ("A", "A"),
        ("Because", None),
        ("(E)", None),
        ("", None),
    ],
)
def test_the_option_in_a_written_answer(text: str, letter: str | None) -> None:
    assert written_letter(text, ("A", "B", "C")) == letter
    item = Item(
        "1", "f:1", (Message("user", "q"),), choices=("A", "B", "C"), sets={"accuracy": AnswerSets((1,), (0, 2))}
    )
    assert measure(item, Outcome(text=text)) == ({} if letter is None else {"accuracy": float(letter == "B")})
