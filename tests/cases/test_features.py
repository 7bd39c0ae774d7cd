"""LLaMA-Factory users' files with several adapters, a new adapter, new tokens and NEFTune, through the command line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.cli.main import main
from palate.evaluation.accuracy.held_out import encode_pairs
from palate.evaluation.subject import Subject, read_run
from palate.models.precision import default_device, resolve
from palate.records import Message, PreferencePair
from palate.text.groups import EncodedGroup
from runs import distance, metrics, pairs, run, run_json, weights, write_rows
from tiny import save_tiny, stock_score

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "yaml"
ADAPTER: dict[str, Any] = {
    "finetuning_type": "lora",
    "lora_rank": 4,
    "learning_rate": 2e-2,
    "per_device_train_batch_size": 4,
}
# Of tutor_sft.yaml, what is about other topics or needs a service.
ASIDE = ("logging_strategy", "include_num_input_tokens_seen", "train_on_prompt", "report_to", "ddp_timeout")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the files expect it: the model, two adapters that were trained on it, and the data."""
    folder = tmp_path_factory.mktemp("world")
    model = save_tiny(folder / "tiny", initializer_range=0.2)
    for seed, name in enumerate(("pt_adapter", "sft_adapter")):
        run(model, folder / "models" / name, **ADAPTER, seed=seed, lora_target=["q_proj", "v_proj"])
    write_rows(folder / "plain.jsonl", pairs(20))
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def case(name: str, *without: str) -> dict[str, Any]:
    path = CASES / f"{name}.yaml"
    if not path.exists():
        pytest.skip(f"../shared/cases/yaml/{name}.yaml is not there")
    given: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: value for key, value in given.items() if key not in without}


def train(here: Path, given: dict[str, Any], *changed: str) -> int:
    (here / "run.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    fixed = ["model_name_or_path=tiny", "torch_threads=1", *changed]
    if given["stage"] == "dpo":
        fixed += ["sample_prompts=0", "reference_cache=off"]
    return main(["train", "run.yaml", *(part for one in fixed for part in ("--set", one))])


def held_out(run: str) -> tuple[Subject, list[EncodedGroup]]:
    """The trained policy as `palate eval` loads it, and pairs that it was not trained on."""
    device = default_device()
    subject = Subject(read_run(run).policy, resolve("fp32", device), device)
    rows = [
        PreferencePair(
            id=f"row:{n}",
            prompt=(Message("user", row["prompt"]),),
            chosen=(Message("assistant", row["chosen"]),),
            rejected=(Message("assistant", row["rejected"]),),
        )
        for n, row in enumerate(pairs(6, seed=77))
    ]
    return subject, encode_pairs(rows, subject.template, 512)


def loaded_by_peft(*adapters: str) -> Any:
    """The model with each adapter merged in turn, by transformers and PEFT alone."""
    model: Any = AutoModelForCausalLM.from_pretrained("tiny")
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model


def check_scores(run: str, *adapters: str) -> list[float]:
    """What was saved scores held-out pairs the same in palate and in PEFT; returns the scores."""
    subject, groups = held_out(run)
    ours = [total for sums, _ in subject.score(groups) for total in sums]
    model = loaded_by_peft(*adapters)
    theirs = [stock_score(model, group, answer) for group in groups for answer in range(2)]
    assert ours == pytest.approx(theirs, abs=2e-3)
    return ours


def test_lf1920_merges_the_first_and_continues_the_last(here: Path) -> None:
    assert train(here, case("lf1920_two_adapters"), "learning_rate=1e-3") == 0
    record, first = run_json(here / "out/x"), metrics(here / "out/x")[0]
    assert first["rewards/margins"] == 0.0
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert record["reference"]["kind"] == "copy"
    assert "adapter models/pt_adapter: merged into the model before training" in record["notices"]
    saved = json.loads((here / "out/x/adapter_config.json").read_text())
    assert (saved["r"], sorted(saved["target_modules"])) == (4, ["q_proj", "v_proj"]), "the second adapter's own"
    assert check_scores("out/x", "models/pt_adapter", "out/x") != pytest.approx(
        check_scores("models/sft_adapter", "models/sft_adapter"), abs=1e-2
    )
    assert "models/pt\\_adapter" in (here / "out/x/README.md").read_text()


def test_lf1920_reads_a_list_as_it_reads_a_text(here: Path) -> None:
    given = case("lf1920_two_adapters")
    assert train(here, given, "output_dir=out/text") == 0
    names = given["adapter_name_or_path"].split(",")
    assert train(here, {**given, "adapter_name_or_path": names}, "output_dir=out/list") == 0
    assert distance(here / "out/text", here / "out/list") == 0.0


def test_lf1920_goes_on_from_its_checkpoint(here: Path) -> None:
    given = {**case("lf1920_two_adapters"), "save_strategy": "steps", "save_steps": 6}
    assert train(here, given) == 0
    whole = weights(here / "out/x")
    for path in (here / "out/x").glob("checkpoint-*"):
        if path.name != "checkpoint-6":
            shutil.rmtree(path)
    assert train(here, given, "resume_from_checkpoint=true") == 0
    assert all(torch.equal(whole[name], value) for name, value in weights(here / "out/x").items())


def test_lf3821_trains_a_new_adapter_on_the_merged_model(here: Path) -> None:
    assert train(here, case("lf3821"), "learning_rate=1e-3") == 0
    record, first = run_json(here / "out/x"), metrics(here / "out/x")[0]
    assert first["rewards/margins"] == 0.0
    assert record["reference"]["kind"] == "adapter"
    saved = json.loads((here / "out/x/adapter_config.json").read_text())
    assert saved["r"] == 8
    assert {"up_proj", "down_proj"} < set(saved["target_modules"])
    check_scores("out/x", "models/sft_adapter", "out/x")
    # The reference is the merged model: what `palate eval` compares with scores as the start did.
    device = default_device()
    reference = Subject(read_run("out/x").reference, resolve("fp32", device), device)
    _, groups = held_out("out/x")
    merged = loaded_by_peft("models/sft_adapter")
    theirs = [stock_score(merged, group, answer) for group in groups for answer in range(2)]
    assert [total for sums, _ in reference.score(groups) for total in sums] == pytest.approx(theirs, abs=2e-3)


def test_lf3821_says_what_the_saved_adapter_needs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(here, case("lf3821"), "max_steps=1") == 0
    assert "the saved adapter needs those merged before it: adapter_name_or_path: models/sft_adapter,out/x" in (
        capsys.readouterr().err
    )
    assert train(here, case("lf3821", "adapter_name_or_path"), "max_steps=1", "output_dir=out/none") == 0
    assert "create_new_adapter has no effect without adapter_name_or_path" in capsys.readouterr().err


def test_lf7665_adds_its_tokens_and_trains_their_rows(here: Path) -> None:
    assert train(here, case("lf7665_new_tokens"), "learning_rate=1e-2", "per_device_train_batch_size=4") == 0
    tokenizer, before = AutoTokenizer.from_pretrained("out/x"), len(AutoTokenizer.from_pretrained("tiny"))
    new = ["<face>", "</face>", "<body>", "</body>"]
    assert tokenizer.convert_tokens_to_ids(new) == list(range(before, before + 4))
    ids = tokenizer("<face>x</face>", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "x"
    whole = {name: value for name, value in weights(here / "out/x").items() if "lora_" not in name}
    assert {tuple(value.shape) for value in whole.values()} == {(before + 4, 32)}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in whole} == {"embed_tokens", "lm_head"}
    # palate, and PEFT from the folder alone, which finds base and tokenizer by itself.
    subject, groups = held_out("out/x")
    ours = [total for sums, _ in subject.score(groups) for total in sums]
    model = AutoPeftModelForCausalLM.from_pretrained("out/x")
    assert model.get_input_embeddings().weight.shape[0] == before + 4
    theirs = [stock_score(model, group, answer) for group in groups for answer in range(2)]
    assert ours == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize("changed", ["add_tokens", "add_special_tokens", "resize_vocab"])
def test_lf7665_under_the_newer_names(here: Path, changed: str) -> None:
    """The newer LLaMA-Factory has two names for it, and resizes by itself where tokens are added."""
    given = case("lf7665_new_tokens", "new_special_tokens", "additional_target", "resize_vocab")
    tokens = "<face>,</face>"
    if changed == "resize_vocab":
        given |= {"new_special_tokens": tokens, "resize_vocab": False}
        assert train(here, given) != 0
        return
    assert train(here, {**given, changed: tokens}, "max_steps=2") == 0
    whole = [name for name in weights(here / "out/x") if "lora_" not in name]
    assert len(whole) == 2, "the rows of new tokens train unless additional_target names others"


def test_lf7665_aligned_afterwards(here: Path) -> None:
    """The next stage names the adapter only: the tokens come with it, and the reference has their rows."""
    assert train(here, case("lf7665_new_tokens"), "learning_rate=1e-2", "output_dir=out/sft") == 0
    given = {**case("lf3821"), "adapter_name_or_path": "out/sft"}
    assert train(here, given, "max_steps=2", "learning_rate=1e-3") == 0
    assert metrics(here / "out/x")[0]["rewards/margins"] == 0.0
    assert len(AutoTokenizer.from_pretrained("out/x")) == len(AutoTokenizer.from_pretrained("out/sft"))
    subject, groups = held_out("out/x")
    assert subject.score(groups)


def test_tutor_sft_trains_with_noise_and_ends_with_its_best_checkpoint(here: Path) -> None:
    given = {**case("tutor_sft", *ASIDE), "val_size": 0.2, "num_train_epochs": 8, "learning_rate": 1e-2}
    given |= {"eval_steps": 2, "save_steps": 4, "gradient_accumulation_steps": 4, "precision": "fp32", "bf16": None}
    assert train(here, given) == 0
    record = run_json(here / "out/x")
    assert record["config"]["neftune_noise_alpha"] == 15.0
    evaluated = {row["step"]: row["loss"] for row in metrics(here / "out/x", "eval")}
    kept = [int(path.name.rpartition("-")[2]) for path in (here / "out/x").glob("checkpoint-*")]
    saved = {step: loss for step, loss in evaluated.items() if step in kept or step % 4 == 0}
    best = min(saved, key=lambda step: saved[step])
    assert distance(here / "out/x", here / f"out/x/checkpoint-{best}") == 0.0
    assert record["final_metrics"]["eval_loss"] == pytest.approx(evaluated[best])
    check_scores("out/x", "out/x")


def test_tutor_sft_is_noisy_in_training_only(here: Path) -> None:
    given = {**case("tutor_sft", *ASIDE), "learning_rate": 1e-9, "lora_dropout": 0, "val_size": 0.2, "eval_steps": 82}
    noise = given.pop("neftune_noise_alpha")
    assert train(here, given, "output_dir=out/plain") == 0
    assert train(here, {**given, "neftune_noise_alpha": noise}, "output_dir=out/noisy") == 0
    plain, noisy = (metrics(here / "out" / name) for name in ("plain", "noisy"))
    assert all(abs(one["loss"] - other["loss"]) > 1e-3 for one, other in zip(plain, noisy, strict=True))
    ours, theirs = (metrics(here / "out" / name, "eval")[-1]["loss"] for name in ("plain", "noisy"))
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("metric_for_best_model=rewards/margins", "rewards/margins is not measured with stage: sft"),
        (
            "metric_for_best_model=rouge-l",
            "rouge-l is not measured with stage: sft; an evaluation has logps/chosen, loss, nll",
        ),
        ("save_steps=83", "needs save_steps (83) to be a multiple of eval_steps (41)"),
        ("neftune_noise_alpha=-1", "neftune_noise_alpha"),
    ],
)
def test_tutor_sft_with_a_mistake_is_one_line(
    here: Path, changed: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(here, case("tutor_sft", *ASIDE), changed) != 0
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("palate: error")]
    assert len(errors) == 1
    assert words in errors[0]
    assert not (here / "out/x/model.safetensors").exists()
