"""kill -9 after every write of win rates and benchmarks: the call that goes on ends as an uninterrupted one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, endpoint, make_httpserver, waits
from palate.cli.main import main
from runs import write_rows
from tiny import save_tiny

__all__ = ["endpoint", "make_httpserver", "waits"]

# Calls the command until it ends, and kills it each time just after its first new row is durable: of a file of answers,
# of scores or of votes, or a reply in the store. A fork has all packages loaded.
KILLS = """
import json, os, signal, sys
import transformers.models.llama.modeling_llama, transformers.models.llama.tokenization_llama
import openai, openai.resources.chat
import palate.evaluation.benchmarks, palate.evaluation.winrate, palate.report.pages.winrate
from palate.artifacts import JsonlWriter
from palate.cli.main import main
from palate.feedback.judges.cache import Judgements

def dies(target, name):
    real = getattr(target, name)
    def change(*given, **more):
        real(*given, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(target, name, change)

ends = []
while len(ends) < 60 and (not ends or ends[-1] == -9):
    child = os.fork()
    if not child:
        for target, name in [(JsonlWriter, "write"), (Judgements, "add")]:
            dies(target, name)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(sys.argv[1:]))
    _, status = os.waitpid(child, 0)
    ends.append(os.waitstatus_to_exitcode(status))
print(json.dumps(ends))
"""


def killed(words: list[str]) -> list[int]:
    done = subprocess.run([sys.executable, "-c", KILLS, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ends: list[int] = json.loads(done.stdout)
    return ends


def without_folder(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return {**found, "folder": ""}


@pytest.mark.slow
@pytest.mark.usefixtures("waits")
def test_win_rates(endpoint: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(save_tiny(tmp_path / f"model{seed}", seed=seed, initializer_range=0.2)) for seed in (0, 1)]
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"what is {n}"} for n in range(2)])
    words = ["eval", "winrate", *models, "--prompts", str(prompts), "--judge", "openai:m", "--max-new-tokens", "6"]
    words += ["--in-flight", "1", "--precision", "fp32", "--output"]
    ends = killed([*words, str(tmp_path / "killed")])
    assert ends[-1] == 0
    assert len(ends) > 6, "killed after each of the answers and replies"
    asked = Counter(endpoint.texts)
    assert set(asked.values()) == {1}, "no question twice"
    endpoint.requests.clear()
    assert main([*words, str(tmp_path / "whole"), "--store", f"sqlite:///{tmp_path / 'other.db'}"]) == 0
    capsys.readouterr()
    assert Counter(endpoint.texts) == asked
    found, expected = (without_folder(tmp_path / name / "winrate.json") for name in ("killed", "whole"))
    assert found == expected


@pytest.mark.slow
@pytest.mark.usefixtures("waits")
def test_labelled_answers(endpoint: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "model", initializer_range=0.2)
    rows = [f"{n},request {n},kind,safe,x,x\n" for n in range(2)]
    (tmp_path / "xstest_prompts.csv").write_text("id,prompt,type,label,focus,note\n" + "".join(rows))
    endpoint.answer = lambda body: "[[full_compliance]]"
    words = [
        "eval",
        "bench",
        "xstest",
        str(model),
        "--data",
        str(tmp_path / "xstest_prompts.csv"),
        "--judge",
        "openai:m",
    ]
    words += ["--in-flight", "1", "--max-new-tokens", "4", "--precision", "fp32", "--output"]
    ends = killed([*words, str(tmp_path / "killed")])
    assert ends == [-9] * 3 + [0], "after the answers, and after each label"
    assert set(Counter(endpoint.texts).values()) == {1}
    assert main([*words, str(tmp_path / "whole"), "--store", f"sqlite:///{tmp_path / 'other.db'}"]) == 0
    capsys.readouterr()
    found, expected = (without_folder(tmp_path / name / "bench-xstest.json") for name in ("killed", "whole"))
    assert found == expected


def test_results_of_both_calls_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`eval compare` reads what `eval bench` writes of two models, and gives the difference of `eval bench` itself."""
    models = [str(save_tiny(tmp_path / f"model{seed}", seed=seed, initializer_range=0.2)) for seed in (0, 1)]
    lists = {name: {"it is": 1, "it was not": 0} for name in ("mc0_targets", "mc1_targets", "mc2_targets")}
    data = tmp_path / "mc_task.json"
    data.write_text(json.dumps([{"question": f"is it {n}?", **lists} for n in range(12)]))
    words = ["eval", "bench", "truthfulqa", "--data", str(data), "--prompt", "chat", "--precision", "fp32", "--json"]
    outs = [tmp_path / "a", tmp_path / "b", tmp_path / "both"]
    for out, named in zip(outs, (models[:1], models[1:], models), strict=True):
        assert main([*words, *named, "--output", str(out)]) == 0
    capsys.readouterr()
    assert main(["eval", "compare", *(str(out / "bench-truthfulqa.json") for out in outs[:2]), "--json"]) == 0
    compared = {
        one["metric"]: one["found"]["difference"]["estimate"] for one in json.loads(capsys.readouterr().out)["metrics"]
    }
    together = json.loads((outs[2] / "bench-truthfulqa.json").read_text())["comparisons"][0]["differences"]
    assert compared == pytest.approx({f"truthfulqa/{one['metric']}": one["difference"]["estimate"] for one in together})
