"""Keys, tokens and passwords of the environment are in no file and no line of output, whichever command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, endpoint, make_httpserver, prompt_text, waits
from palate.cli.main import main
from runs import config_file, pairs, values, write_rows
from tiny import save_tiny

__all__ = ["endpoint", "make_httpserver", "waits"]

SECRET = "CANARY-123"
VARIABLES = ("PALATE_API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "PALATE_PASSWORD")


def obedient(body: dict[str, Any]) -> Any:
    """Repeats the key in every text, as an engine that logs its requests may do."""
    text = prompt_text(body) if len(body["messages"]) == 1 else ""
    return f"Bearer {SECRET} says so.\nVerdict: A" if "<<<answer A" in text else f"an answer with {SECRET} in it"


@pytest.mark.usefixtures("waits")
def test_no_output_has_a_secret(
    endpoint: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{SECRET}-{name}" if "PASSWORD" in name else SECRET)
    monkeypatch.chdir(tmp_path)
    endpoint.answer = obedient
    write_rows(Path("p.jsonl"), [{"prompt": f"question {n}?"} for n in range(3)])
    rows = [{"id": f"p:{n}", "prompt": f"question {n}?", "completions": ["yes", "no it is"]} for n in range(3)]
    write_rows(Path("c.jsonl"), rows)
    for name, text in (("a", "yes"), ("b", "no it is")):
        write_rows(Path(f"{name}.jsonl"), [{**row, "completions": [text]} for row in rows])
    write_rows(Path("pairs8.jsonl"), pairs(8))
    given = values(save_tiny(tmp_path / "model"), tmp_path / "run", report_to="tensorboard", sample_prompts=1)
    config = str(config_file(Path("run.yaml"), {**given, "num_train_epochs": 1, "eval_dataset": "pairs8.jsonl"}))
    api = ["--base-url", endpoint.url]
    shared = {"left": 0, "right": 1, "shown": "left_first", "when": "2026-01-31T12:00:00Z", "kind": "person"}
    write_rows(Path("v.jsonl"), [{**shared, "item": f"p:{n}", "outcome": "left", "who": "ann"} for n in range(3)])
    for words in (
        ["plan", config],
        ["train", config],
        ["report", "run"],
        ["eval", "accuracy", "run", "--dataset", "pairs8.jsonl"],
        ["data", "inspect", "pairs8.jsonl"],
        ["generate", "p.jsonl", "--model", "m", "--k", "2", *api, "--output", "made.jsonl"],
        ["judge", "c.jsonl", "--judge", "openai:m", "--prompt", "concise", "--pairs", "judged.jsonl"],
        ["judge", "calibrate", "c.jsonl", "--votes", "v.jsonl", "--judge", "openai:m", "--prompt", "concise",
         "--canaries", "1", "--repeats", "1", "--spread", "0"],
        ["eval", "winrate", "a.jsonl", "b.jsonl", "--judge", "openai:m", "--prompt", "concise", "--output", "rate"],
        ["label", "users", "add", "ann", "--role", "admin"],
        ["label", "import", "--candidates", "c.jsonl", "--votes", "v.jsonl", "--campaign", "all"],
        ["label", "assign", "all"],
        ["label", "status"],
        ["label", "export", "--to", "votes", "-o", "exported.jsonl"],
        ["label", "export", "--to", "palate", "-o", "trained.jsonl"],
        ["label", "users", "list", "--json"],
        ["train", config, f"api_key={SECRET}"],
        ["judge", "c.jsonl", "--judge", f"openai:m@http://user:{SECRET}@127.0.0.1:9/v1"],
        ["label", "status", "--store", f"postgresql://me:{SECRET}@127.0.0.1:1/d"],
    ):  # fmt: skip
        code = main(words)
        assert (code == 0) == (not any(SECRET in word for word in words)), (words, capfd.readouterr().err)
    assert endpoint.keys == {f"Bearer {SECRET}"}
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    written = {"palate.db", "run.json", "report.html", "made.jsonl", "c.card.json", "winrate.json", "trained.jsonl"}
    assert written <= {path.name for path in files}
    assert [path.relative_to(tmp_path).as_posix() for path in files if SECRET.encode() in path.read_bytes()] == []
