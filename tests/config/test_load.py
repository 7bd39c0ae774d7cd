"""From file and overrides to a config: every mistake one line, every silent change a notice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.config.load import PIPELINE_KEYS, config_from_values, load_config
from palate.config.run import DpoConfig
from palate.errors import ConfigError

BASE = "stage: dpo\nmodel_name_or_path: model\ndataset: pairs.jsonl\noutput_dir: runs/a\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_shared_llamafactory_file_runs_unchanged(shared_configs: Path) -> None:
    loaded = load_config(shared_configs / "llamafactory_dpo.yaml")
    config = loaded.config
    assert isinstance(config, DpoConfig)
    assert (config.ref_model, config.dataset, config.template) == (
        "checkpoints/sft/chat-model",
        "comparison_gpt4_en",
        "qwen",
    )
    assert (config.pref_loss, config.objective_options["pref_beta"]) == ("sigmoid", 0.1)
    assert (config.learning_rate, config.warmup_ratio, config.lr_scheduler_type) == (5e-7, 0.1, "cosine")
    assert (config.precision, config.gradient_checkpointing) == ("fp16", True)
    assert (config.finetuning_type, config.lora_target, config.lora_rank, config.lora_alpha) == ("lora", "all", 16, 32)
    assert (config.val_size, config.eval_strategy, config.eval_steps) == (0.1, "steps", 100)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (1, 32)
    assert (config.logging_steps, config.save_steps) == (5, 500)
    assert loaded.notices == ("fp16: true is read as precision: fp16",)


def test_the_shared_truthy_file_runs_unchanged(shared_configs: Path) -> None:
    loaded = load_config(shared_configs / "truthy_dpo_phi2.yaml")
    config = loaded.config
    assert isinstance(config, DpoConfig)
    assert (config.finetuning_type, config.template, config.seed) == ("full", "phi2", 2003)
    assert (config.report_to, config.wandb_project) == (["wandb"], "truthy-dpo_whole")
    assert config.objective_options["pref_beta"] == 0.2
    assert loaded.notices == ()


def test_the_other_keys_that_llamafactory_users_have(write: Callable[[str], Path]) -> None:
    path = write(
        BASE
        + "do_train: true\ntrust_remote_code: true\nmax_samples: 1000\npreprocessing_num_workers: 16\n"
        + "dataloader_num_workers: 4\nplot_loss: true\noverwrite_output_dir: true\noverwrite_cache: true\n"
        + "save_only_model: false\nreport_to: none\nddp_timeout: 180000000\nresume_from_checkpoint: null\n"
        + "pref_ftx: 0.1\ndpo_label_smoothing: 0.05\nfinetuning_type: freeze\nfreeze_trainable_layers: 3\nbf16: true\n"
    )
    loaded = load_config(path)
    config = loaded.config
    assert isinstance(config, DpoConfig)
    assert (config.trust_remote_code, config.max_samples) == (True, 1000)
    assert (config.overwrite_output_dir, config.ddp_timeout, config.resume_from_checkpoint) == (True, 180000000, None)
    assert config.objective_options["pref_ftx"] == 0.1
    assert config.report_to == []
    assert loaded.notices == (
        "bf16: true is read as precision: bf16",
        "no effect here: preprocessing_num_workers: 16 (the tokenizer uses all cores by itself); "
        "plot_loss: true (report.html always shows the loss); overwrite_cache: true (no tokenised dataset is cached)",
    )


def test_numbers_without_a_dot_are_numbers(write: Callable[[str], Path]) -> None:
    assert load_config(write(BASE + "learning_rate: 5e-7\n")).config.learning_rate == 5e-7
    assert load_config(write(BASE + "learning_rate: '5e-7'\n")).config.learning_rate == 5e-7
    assert load_config(write(BASE), ["learning_rate=5e-7"]).config.learning_rate == 5e-7
    assert load_config(write(BASE + "max_steps: 1e3\n")).config.max_steps == 1000


@pytest.mark.parametrize("word", ["no", "off", "'no'", "No"])
def test_a_bare_no_is_a_word_where_words_are_meant(write: Callable[[str], Path], word: str) -> None:
    path = write(BASE + f"evaluation_strategy: {word}\nsave_strategy: {word.lower()}\n")
    config = load_config(path).config
    assert config.eval_strategy == "no"


def test_overrides_win_and_the_last_one_wins_over_all(write: Callable[[str], Path]) -> None:
    path = write(BASE + "seed: 1\nfp16: true\nlabel_smoothing: 0.1\n")
    loaded = load_config(path, ["seed=2", "seed=3", "precision=fp32", "dpo_label_smoothing=0.2", "report_to="])
    config = loaded.config
    assert isinstance(config, DpoConfig)
    assert (config.seed, config.precision, config.dpo_label_smoothing, config.report_to) == (3, "fp32", 0.2, [])


def test_an_override_of_a_list_or_mapping(write: Callable[[str], Path]) -> None:
    assert load_config(write(BASE), ["dataset=[a, b]"]).config.dataset == ["a", "b"]
    assert load_config(write(BASE), ["dataset={a: 1, b: 2}"]).config.dataset == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learnig_rate: 1", "unknown key learnig_rate; did you mean learning_rate?"),
        ("loss_type: ipo", "unknown key loss_type; did you mean pref_loss?"),
        ("zzzzzz: 1", "unknown key zzzzzz; docs/config.md lists the keys"),
        ("learning_rate: -1", "learning_rate must be above 0, not -1"),
        ("learning_rate: fast", "learning_rate must be a number, not fast"),
        ("learning_rate: .nan", "learning_rate must be a finite number, not nan"),
        ("lr_scheduler_type: cosin", "not cosin; did you mean cosine?"),
        ("eval_strategy: step", "eval_strategy must be no, steps or epoch, not step; did you mean steps?"),
        ("seed: 1.5", "seed must be a whole number, not 1.5"),
        ("gradient_checkpointing: maybe", "gradient_checkpointing must be true or false, not maybe"),
        ("quantization_bit: 5", "quantization_bit must be 4 or 8, not 5"),
        ("max_tokens_per_batch: aut", "max_tokens_per_batch must be a whole number or auto, not aut"),
        ("columns: [a]", "columns must be a mapping, not [a]"),
        (
            "report_to: mflow",
            "report_to must be tensorboard, wandb, mlflow or trackio, not mflow; did you mean mlflow?",
        ),
        ("pref_loss: sigmoyd", "pref_loss: there is no objective 'sigmoyd'; did you mean sigmoid?"),
        ("pref_beta: -0.1", "pref_beta must be above 0, not -0.1"),
        ("stage: dpo", "stage is given twice, first on line 1"),
        ("hf_hub_token: abc", "hf_hub_token holds a secret"),
    ],
)
def test_a_wrong_line_is_named_with_its_place_and_remedy(write: Callable[[str], Path], line: str, message: str) -> None:
    path = write(BASE + "\n" + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:6: ")
    assert message in text
    assert "\n" not in text
    assert caught.value.exit_code == 2


def test_a_wrong_override_is_named_as_such(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"^--set: learning_rate must be above 0, not 0"):
        load_config(write(BASE), ["learning_rate=0"])
    with pytest.raises(ConfigError, match=r"^--set: unknown key sed; did you mean seed\?"):
        load_config(write(BASE), ["sed=1"])


def test_what_is_missing_is_said_with_its_meaning(write: Callable[[str], Path]) -> None:
    path = write("stage: dpo\nmodel_name_or_path: model\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    dataset, output_dir = caught.value.lines
    assert dataset.startswith(f"{path}: dataset is missing: training data: a file, folder")
    assert output_dir.startswith(f"{path}: output_dir is missing: the run directory")
    with pytest.raises(ConfigError, match=r"stage is missing; add `stage: dpo` \(one of sft, .*dpo"):
        load_config(write("dataset: a\n"))


def test_every_wrong_key_has_a_line_of_one_message(write: Callable[[str], Path]) -> None:
    path = write(
        BASE
        + "learnig_rate: 1\nuse_badam: true\nrewards: r\nbf16: maybe\nseed: -1\npref_beta: -0.1\nsimpo_gamma: 2\n"
        + "max_steps: 0\nuse_swanlab: yes\nqps: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["lora_rank=0"])
    lines = sorted(line.removeprefix(f"{path}:") for line in caught.value.lines)
    assert [re.match(r"(\d+|--set): [^;,]*", line)[0] for line in lines] == [  # type: ignore[index]
        "--set: lora_rank must be at least 1",
        "10: pref_beta must be above 0",
        "11: simpo_gamma: 2.0 has no effect on pref_loss: sigmoid",
        "12: max_steps must be -1 (leave it to num_train_epochs) or at least 1",
        "13: use_swanlab: yes is not available",
        "14: unknown key qps",
        "5: unknown key learnig_rate",
        "6: use_badam: true is not available",
        "7: rewards belongs to stage ppo or grpo",
        "8: bf16 must be true or false",
        "9: seed must be at least 0",
    ]


def test_a_slip_in_a_key_does_not_make_the_key_missing(write: Callable[[str], Path]) -> None:
    path = write(BASE.replace("dataset", "datset"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.lines == (f"{path}:3: unknown key datset; did you mean dataset?",)


def test_an_override_reaches_into_a_mapping(write: Callable[[str], Path]) -> None:
    path = write(BASE + "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-7}\n")
    config = load_config(path, ["lr_scheduler_kwargs.min_lr=2e-7", "lr_scheduler_kwargs.num_cycles=0.5"]).config
    assert config.lr_scheduler_kwargs == {"min_lr": 2e-7, "num_cycles": 0.5}
    path = write(BASE.replace("pairs.jsonl", "{a.jsonl: 1, b.jsonl: 2}"))
    assert load_config(path, ["dataset.b.jsonl=5"]).config.dataset == {"a.jsonl": 1.0, "b.jsonl": 5.0}
    assert load_config(write(BASE), ["columns.prompt=q"]).config.columns == {"prompt": "q"}
    with pytest.raises(ConfigError, match=r"--set dataset.a: pairs.jsonl is not a mapping"):
        load_config(write(BASE), ["dataset.a=5"])


def test_an_override_mends_what_the_file_has_wrong(write: Callable[[str], Path]) -> None:
    path = write(BASE + "use_badam: true\nbf16: maybe\nqps: 1\n")
    assert load_config(path, ["use_badam=false", "bf16=true", "qps=null"]).config.precision == "bf16"


def test_a_null_is_a_key_left_out(write: Callable[[str], Path]) -> None:
    config = load_config(
        write(BASE + "seed: null\nref_model:\ntrust_remote_code: ~\nreport_to: null\nhub_x: null\nrewards: null\n")
    ).config
    assert (config.seed, config.trust_remote_code, config.report_to) == (42, False, [])


def test_stages_own_their_keys(write: Callable[[str], Path]) -> None:
    sft = BASE.replace("dpo", "sft")
    with pytest.raises(
        ConfigError, match=r"run\.yaml:5: dpop_lambda belongs to stage dpo, but this config says stage: sft"
    ):
        load_config(write(sft + "dpop_lambda: 3\n"))
    with pytest.raises(ConfigError, match=r"run\.yaml:1: stage must be one of sft, .*, not pt"):
        load_config(write(BASE.replace("dpo", "pt")))
    with pytest.raises(ConfigError, match=r"grpo, not dop; did you mean dpo\?$"):
        load_config(write(BASE.replace("dpo", "dop")))


def test_the_default_of_another_stage_changes_nothing(write: Callable[[str], Path]) -> None:
    lines = "pref_beta: 0.1\nsimpo_gamma: 1\ntemperature: 1.0\nppo_score_norm: no\npref_loss: sigmoid\n"
    (line,) = load_config(write(BASE.replace("dpo", "sft") + lines)).notices
    assert line.startswith("no effect here: pref_beta: 0.1 (the default of stage dpo or kto); simpo_gamma: 1 (the")
    with pytest.raises(ConfigError) as caught:
        load_config(write(BASE.replace("dpo", "sft") + "pref_beta: 0.2\ntemperature: true\nppo_score_norm: yes\n"))
    assert len(caught.value.lines) == 3


@pytest.mark.parametrize("key", PIPELINE_KEYS)
def test_pipelines_are_left_to_train(write: Callable[[str], Path], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"run\.yaml:1: {key} makes a pipeline, which `palate train` runs"):
        load_config(write(f"{key}:\n  - stage: sft\n"))


@pytest.mark.parametrize(
    ("lines", "notice"),
    [
        ("lora_rank: 4", "lora_rank has no effect with finetuning_type: full"),
        ("finetuning_type: lora\nfreeze_trainable_layers: 3", "freeze_trainable_layers has no effect with"),
        ("warmup_ratio: 0.1\nwarmup_steps: 10", "warmup_ratio has no effect together with warmup_steps"),
        ("eval_steps: 5", "eval_steps has no effect with eval_strategy: no"),
        ("max_steps: 5\nnum_train_epochs: 2", "num_train_epochs has no effect together with max_steps"),
        ("wandb_project: p", "wandb_project has no effect without report_to: wandb"),
        ("project: p", "project has no effect without report_to: trackio"),
    ],
)
def test_a_key_that_the_rest_leaves_idle_is_said(write: Callable[[str], Path], lines: str, notice: str) -> None:
    (said,) = load_config(write(BASE + lines + "\n")).notices
    assert said.startswith(notice)


def test_a_config_without_surprises_has_no_notices(write: Callable[[str], Path]) -> None:
    assert load_config(write(BASE)).notices == ()


def test_values_in_memory_load_the_same_way() -> None:
    values = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o", "bf16": True}
    loaded = config_from_values(values)
    assert loaded.config.precision == "bf16"
    assert loaded.notices == ("bf16: true is read as precision: bf16",)
    with pytest.raises(ConfigError, match=r"^demo: unknown key sed"):
        config_from_values({**values, "sed": 1}, origin="demo")


@pytest.mark.parametrize("value", [2**31, "99999999999999999999"])
@pytest.mark.parametrize("key", ["seed", "per_device_train_batch_size", "max_tokens_per_batch", "save_total_limit"])
def test_a_whole_number_has_an_end(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"config: {key} must be at most 2147483647, not "):
        config_from_values({"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o", key: value})


@pytest.mark.parametrize("key", ["seed", "learning_rate", "max_tokens_per_batch", "pref_beta", "save_total_limit"])
def test_true_is_no_number(key: str) -> None:
    with pytest.raises(ConfigError, match=f"config: {key} must be a number, not true"):
        config_from_values({"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o", key: True})


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ([{"reward": "length:longer"}, {"reward": "a:b", "wieght": 1}], "rewards, number 2: wieght is not a known key"),
        ([{"reward": "length:longer", "weight": "much"}], "rewards, number 1: weight must be a number, not much"),
        ([], "rewards must be not empty, not []"),
    ],
)
def test_a_mistake_within_a_list_is_named_by_its_place(rewards: object, said: str) -> None:
    given = {"stage": "grpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o", "rewards": rewards}
    with pytest.raises(ConfigError, match=re.escape(said)):
        config_from_values(given)
