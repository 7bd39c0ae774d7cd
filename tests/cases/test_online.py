"""Online training on users' rows: rewards read the dataset's columns, and may have no opinion (`gsm.jsonl`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.config.pipeline import load_pipeline
from palate.data.scores import checked_scores
from palate.errors import ConfigError, DataError, FunctionError
from palate.models.reward_model import RewardModel
from palate.pipelines.pipeline import run_pipeline
from palate.records import Message
from runs import config_file, metrics, run, write_rows
from tiny import save_tiny

GSM = Path(__file__).parents[2].parent / "shared" / "cases" / "gsm.jsonl"
needs_gsm = pytest.mark.skipif(not GSM.is_file(), reason=f"{GSM} is not there")

OWN = """
import json
from pathlib import Path

SEEN = Path(__file__).with_name("seen.jsonl")


def keep(**facts):
    with SEEN.open("a") as file:
        file.write(json.dumps(facts) + "\\n")


def wanted(prompts, completions, answer):
    keep(asked=[p[-1].content for p in prompts], answer=answer)
    return [float(a in c) for c, a in zip(completions, answer)]


def as_in_trl(completions, **kwargs):
    keep(names=sorted(kwargs))
    return [float(a in c) for c, a in zip(completions, kwargs["answer"])]


def even_alone(prompts, completions, answer):
    return [float(len(c)) if int(a) % 2 == 0 else None for c, a in zip(completions, answer)]


def always_one(prompts, completions):
    return [1.0] * len(completions)


def never(prompts, completions):
    return [None] * len(completions)


def another(prompts, completions, solution):
    return [0.0] * len(completions)


def perhaps(prompts, completions, solution=None):
    keep(solution=solution)
    return [0.0] * len(completions)


def old(asked, texts):
    return [float(len(text)) for text in texts]


def half_a_vote(prompts, completions, level):
    keep(level=level)
    return [None if one is None else float(one) for one in level]


def shown_tools(prompts, completions, tools):
    keep(tools=tools)
    return [float(len(c)) for c in completions]
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "own.py").write_text(OWN)
    return lambda name: f"{tmp_path}/own.py:{name}"


def seen(folder: Path) -> list[dict[str, Any]]:
    return read_jsonl(folder / "seen.jsonl")


def online(data: Path, stage: str = "grpo", **changed: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "dataset": str(data),
        "max_new_tokens": 4,
        "cutoff_len": 256,
        "num_generations": 2,
        "reference_cache": None,
        "per_device_train_batch_size": 4,
        "max_steps": 1,
        **changed,
    }


def rows(folder: Path, *given: dict[str, Any]) -> Path:
    return write_rows(folder / "rows.jsonl", list(given))


@needs_gsm
@pytest.mark.parametrize("stage", ["grpo", "ppo"])
@pytest.mark.parametrize("name", ["wanted", "as_in_trl"])
def test_a_reward_reads_the_columns_of_gsm(
    model: Path, tmp_path: Path, own: Callable[[str], str], stage: str, name: str
) -> None:
    run(model, tmp_path / "run", **online(GSM, stage, rewards=own(name)))
    (call,) = seen(tmp_path)
    if name == "as_in_trl":
        assert call["names"] == ["answer", "group_of", "prompt", "prompts"]
        return
    wanted = {f"What is {n}+1? Answer with a number.": str(n + 1) for n in range(4)}
    assert [wanted[asked] for asked in call["asked"]] == call["answer"], "each answer has the column of its own row"
    assert sorted(call["answer"]) == ["1", "1", "2", "2", "3", "3", "4", "4"]


@needs_gsm
def test_held_out_rows_of_gsm_are_rewarded_alike(model: Path, tmp_path: Path, own: Callable[[str], str]) -> None:
    run(model, tmp_path / "run", **online(GSM, rewards=own("wanted"), val_size=2, per_device_train_batch_size=2))
    training, held_out = seen(tmp_path)
    assert sorted({*training["answer"], *held_out["answer"]}) == ["1", "2", "3", "4"]
    assert "reward" in metrics(tmp_path / "run", "eval")[0]


@needs_gsm
def test_none_is_no_vote_and_ends_no_run(model: Path, tmp_path: Path, own: Callable[[str], str]) -> None:
    """The sum is over the rewards that gave one; what each left out is counted."""
    terms = [{"reward": own("even_alone"), "weight": 10.0}, {"reward": own("always_one"), "weight": 0.5}]
    run(model, tmp_path / "run", **online(GSM, rewards=terms))
    (row,) = metrics(tmp_path / "run")
    mean_of_even = row[f"rewards/{own('even_alone')}"]
    assert row[f"rewards/{own('always_one')}"] == 1.0
    assert row[f"abstained/{own('even_alone')}"] == pytest.approx(0.5)
    assert row["reward"] == pytest.approx(0.5 + 10 * mean_of_even / 2, rel=1e-6)
    assert "unrewarded" not in row


@needs_gsm
@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_answers_without_any_reward_are_counted_and_move_nothing(
    model: Path, tmp_path: Path, own: Callable[[str], str], stage: str
) -> None:
    run(model, tmp_path / "run", **online(GSM, stage, rewards=own("even_alone")))
    assert metrics(tmp_path / "run")[0]["unrewarded"] == pytest.approx(0.5)
    run(model, tmp_path / "none", **online(GSM, stage, rewards=own("never"), max_steps=3, learning_rate=1e-2))
    last = metrics(tmp_path / "none")[-1]
    assert last["unrewarded"] == 1.0
    assert last["reward"] is None, "no mean of nothing"
    assert last["kl"] == pytest.approx(0.0, abs=1e-6)
    found = json.loads((tmp_path / "none" / "run.json").read_text())["health"]
    assert [one["name"] for one in found] == ["no_reward"]


@needs_gsm
def test_a_column_that_no_row_has_is_said_before_the_start(
    model: Path, tmp_path: Path, own: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError, match=r"asks for the column 'solution', which no row has \(columns: answer, "):
        run(model, tmp_path / "run", **online(GSM, rewards=own("another")))
    run(model, tmp_path / "run", **online(GSM, rewards=own("perhaps")))
    assert seen(tmp_path) == [{"solution": None}]


@needs_gsm
def test_a_mapped_column_has_both_names(model: Path, tmp_path: Path, own: Callable[[str], str]) -> None:
    keys = online(GSM, rewards=own("as_in_trl"), columns={"solution": "answer"})
    run(model, tmp_path / "run", **keys)
    assert seen(tmp_path)[0]["names"] == ["answer", "group_of", "prompt", "prompts", "solution"]


@needs_gsm
def test_a_function_of_two_arguments_by_any_name_works_as_before(
    model: Path, tmp_path: Path, own: Callable[[str], str]
) -> None:
    run(model, tmp_path / "run", **online(GSM, rewards=own("old")))
    assert metrics(tmp_path / "run")[0]["reward"] > 0


def test_rows_that_lack_a_column_have_none_there(model: Path, tmp_path: Path, own: Callable[[str], str]) -> None:
    """A mixture of rows with and without a level: the reward has an opinion on the ones that have it."""
    data = rows(tmp_path, {"prompt": "a?", "level": 3}, {"prompt": "b?"}, {"prompt": "c?", "level": None})
    run(model, tmp_path / "run", **online(data, rewards=own("half_a_vote"), per_device_train_batch_size=3))
    (call,) = seen(tmp_path)
    assert sorted(call["level"], key=str) == [3, 3, None, None, None, None]
    (row,) = metrics(tmp_path / "run")
    assert (row["reward"], row["unrewarded"]) == (3.0, pytest.approx(2 / 3))


@needs_gsm
def test_the_frontiers_true_reward_reads_columns_and_abstains(
    model: Path, tmp_path: Path, own: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    keys = ["eval", "frontier", str(model), "--prompts", str(GSM), "--reference", str(model), "--samples", "2"]
    keys += ["--max-new-tokens", "2", "--output", str(tmp_path / "out"), "--json"]
    assert main([*keys, "--reward", own("even_alone"), "--reward", own("wanted")]) == 0
    out, err = capfd.readouterr()
    point = json.loads(out)["points"][0]
    assert point["unscored"] == {own("even_alone"): 4, own("wanted"): 0}
    assert point["rewards"][own("even_alone")]["estimate"] > 0
    assert "even_alone gave no score to 4 of 8 answers" in err
    answers = read_jsonl(next((tmp_path / "out").glob("*answers*.jsonl")))
    assert sum(row["rewards"][own("even_alone")] is None for row in answers) == 8
    assert main([*keys, "--reward", own("another")]) != 0
    assert "asks for the column 'solution'" in capfd.readouterr().err


@needs_gsm
def test_candidates_carry_columns_to_a_judge_of_ones_own(
    model: Path, tmp_path: Path, own: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    candidates = tmp_path / "c.jsonl"
    keys = ["--model", str(model), "--k", "2", "--max-new-tokens", "4", "--out", str(candidates)]
    assert main(["generate", str(GSM), *keys]) == 0
    assert [row["columns"]["answer"] for row in read_jsonl(candidates)] == ["1", "2", "3", "4"]
    capfd.readouterr()
    assert main(["judge", str(candidates), "--judge", own("even_alone"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["count"], told["unparsed"]) == (8, 4), "two orders of four rows, of which two have no score"
    assert main(["judge", str(candidates), "--judge", own("another"), "--votes", str(tmp_path / "v.jsonl")]) != 0
    assert "asks for the column 'solution'" in capfd.readouterr().err


@needs_gsm
def test_a_round_judges_by_columns_and_counts_what_has_no_verdict(
    model: Path, tmp_path: Path, own: Callable[[str], str]
) -> None:
    given = {
        **{"stage": "dpo", "rounds": 1, "model_name_or_path": str(model), "output_dir": str(tmp_path / "out")},
        **{"prompts": str(GSM), "judge": own("even_alone"), "candidates": 3, "candidate_max_new_tokens": 6},
        **{"precision": "fp32", "report_to": "none", "sample_prompts": 0, "drift_samples": 0, "max_steps": 1},
    }
    said: list[str] = []
    run_pipeline(load_pipeline(config_file(tmp_path / "p.yaml", given)), on_progress=said.append)
    pairs = read_jsonl(tmp_path / "out" / "round-1-data" / "pairs.jsonl")
    assert {pair["id"].partition("#")[0] for pair in pairs} <= {"gsm.jsonl:2", "gsm.jsonl:4"}, "the even answers"
    assert all(len(pair["chosen"][0]["content"]) > len(pair["rejected"][0]["content"]) for pair in pairs)
    votes = read_jsonl(tmp_path / "out" / "round-1-data" / "votes.jsonl")
    odd = [vote for vote in votes if vote["item"] in ("gsm.jsonl:1", "gsm.jsonl:3")]
    assert {vote["outcome"] for vote in odd} == {"unparsed"}
    assert any(f"{len(odd)} of {len(votes)} verdicts are left out" in line for line in said)


TOOLS = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {}}}])
WITH_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\\nTOOLS ' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def with_tools(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a template that writes tools."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = WITH_TOOLS
    return save_tiny(tmp_path_factory.mktemp("tools") / "llama", tokenizer=tokenizer, initializer_range=0.2)


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_tools_reach_every_prompt_of_a_run(
    with_tools: Path,
    tmp_path: Path,
    own: Callable[[str], str],
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers, samples and health read the tools of their row; found in what `generate` is given."""
    import palate.training.health.evaluation as evaluation
    import palate.training.online.rollouts as rollouts
    import palate.training.samples as samples

    data = rows(tmp_path, *({"prompt": f"{n}+1?", "tools": TOOLS, "answer": "2"} for n in range(4)))
    asked: dict[str, list[list[int]]] = {}
    for part in (rollouts, samples, evaluation):
        real = part.generate

        def spy(model: Any, prompts: Any, *args: Any, _real: Any = real, _name: str = part.__name__, **kw: Any) -> Any:
            asked.setdefault(_name.rpartition(".")[2], []).extend(list(one) for one in prompts)
            return _real(model, prompts, *args, **kw)

        monkeypatch.setattr(part, "generate", spy)
    keys = online(data, stage, rewards=own("shown_tools"), val_size=2, sample_prompts=2, sample_max_new_tokens=2)
    run(with_tools, tmp_path / "run", **{**keys, "health": "warn", "eval_strategy": "steps", "eval_steps": 1})
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(with_tools)
    assert set(asked) == {"rollouts", "samples", "evaluation"}
    for name, prompts in asked.items():
        assert all("TOOLS [" in tokenizer.decode(one) for one in prompts), name
    assert {one for call in seen(tmp_path) for one in call["tools"]} == {TOOLS}


def test_tools_reach_candidates_and_the_first_line_of_pairs(
    with_tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import palate.evaluation.subject as subject

    data = rows(tmp_path, {"prompt": "1+1?", "tools": TOOLS}, {"prompt": "1+1?"})
    asked: list[int] = []
    real = subject.generate
    monkeypatch.setattr(
        subject,
        "generate",
        lambda model, prompts, *a, **k: (asked.extend(map(len, prompts)), real(model, prompts, *a, **k))[1],
    )
    candidates = tmp_path / "c.jsonl"
    keys = ["--model", str(with_tools), "--k", "2", "--max-new-tokens", "4", "--out", str(candidates)]
    assert main(["generate", str(data), *keys]) == 0
    assert asked[0] == asked[1] > asked[2] + 20
    assert [row.get("tools") for row in read_jsonl(candidates)] == [TOOLS, None]


def test_rows_with_equal_prompts_are_groups_of_their_own(
    model: Path, tmp_path: Path, own: Callable[[str], str]
) -> None:
    """Two rows of one prompt with different references: other answers, and compared with those of their row alone."""
    data = rows(tmp_path, {"prompt": "same?", "answer": "1"}, {"prompt": "same?", "answer": "2"})
    run(model, tmp_path / "run", **online(data, rewards=own("wanted"), per_device_train_batch_size=2))
    assert sorted(seen(tmp_path)[0]["answer"]) == ["1", "1", "2", "2"]
    candidates = tmp_path / "c.jsonl"
    keys = ["--model", str(model), "--k", "2", "--max-new-tokens", "12", "--out", str(candidates)]
    assert main(["generate", str(data), *keys]) == 0
    first, second = read_jsonl(candidates)
    texts = [one["text"] for row in (first, second) for one in row["completions"]]
    assert len(set(texts)) == 4, "equal prompts are sampled anew, not given the same answers"
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    ("body", "said"),
    [("[float('nan')] * len(completions)", "finite number, or None"), ("['1'] * len(completions)", "finite number")],
)
def test_what_is_no_score_is_still_refused(model: Path, tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "bad.py").write_text(f"def f(prompts, completions):\n    return {body}\n")
    data = rows(tmp_path, {"prompt": "a?"}, {"prompt": "b?"})
    with pytest.raises(FunctionError, match=said):
        run(model, tmp_path / "run", **online(data, rewards=f"{tmp_path}/bad.py:f"))


def test_a_round_without_any_verdict_is_refused(model: Path, tmp_path: Path, own: Callable[[str], str]) -> None:
    data = rows(tmp_path, {"prompt": "a?"}, {"prompt": "b?"})
    given = {
        **{"stage": "dpo", "rounds": 1, "model_name_or_path": str(model), "output_dir": str(tmp_path / "out")},
        **{"prompts": str(data), "judge": own("never"), "candidates": 2, "candidate_max_new_tokens": 4},
        **{"precision": "fp32", "report_to": "none", "drift_samples": 0},
    }
    with pytest.raises(DataError, match="preferred no answer to another"):
        run_pipeline(load_pipeline(config_file(tmp_path / "p.yaml", given)))


def test_a_reward_model_reads_the_tools_of_a_row(with_tools: Path, tmp_path: Path) -> None:
    """As it did when it was trained: the same answer to the same question scores otherwise with tools."""
    run(with_tools, tmp_path / "rm", stage="rm", learning_rate=1e-2, max_steps=4, per_device_train_batch_size=8)
    model = RewardModel(tmp_path / "rm")
    asked = [(Message("user", "1+1?"),)] * 2
    columns = {"tools": [None, json.loads(TOOLS)], "other": [1, 2]}
    plain, offered = checked_scores("rm", model, asked, ["2", "2"], columns)
    assert plain is not None
    assert offered is not None
    assert plain == pytest.approx(model(asked[:1], ["2"])[0], abs=1e-5)
    assert abs(offered - plain) > 1e-3
