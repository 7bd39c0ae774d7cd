"""The launch recipes in examples/launch: each parses, and what it starts is a command that palate understands."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from palate.config.load import load_config
from runs import config_file, values

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "launch"


def shell_command(text: str) -> list[str]:
    """The words of the torchrun command in a script, with its lines joined and its variables replaced by 1."""
    joined = re.sub(r"\\\n\s*", " ", text)
    [line] = [line for line in joined.splitlines() if "torchrun" in line and not line.lstrip().startswith("#")]
    plain = re.sub(r"\$\([^)]*\)", "1", line.replace('"$@"', ""))
    plain = re.sub(r"\$\{[^}]*\}|\$\w+", "1", plain)
    return shlex.split(plain[plain.index("torchrun") :])


def kubernetes_command() -> list[str]:
    _, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    words: list[str] = job["spec"]["template"]["spec"]["containers"][0]["command"]
    return [re.sub(r"\$\(\w+\)", "1", word) for word in words]


COMMANDS: dict[str, Any] = {
    "one_node.sh": lambda: shell_command((FOLDER / "one_node.sh").read_text(encoding="utf-8")),
    "slurm.sbatch": lambda: shell_command((FOLDER / "slurm.sbatch").read_text(encoding="utf-8")),
    "skypilot.yaml": lambda: shell_command(
        yaml.safe_load((FOLDER / "skypilot.yaml").read_text(encoding="utf-8"))["run"]
    ),
    "kubernetes.yaml": kubernetes_command,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_torchrun_takes_the_command_and_palate_its_rest(name: str) -> None:
    program, *words = COMMANDS[name]()
    assert program == "torchrun"
    found = get_args_parser().parse_args(words)
    assert found.module
    assert found.training_script == "palate"
    verb, config, *rest = found.training_script_args
    assert verb == "train"
    assert config in ("dpo.yaml", "1")
    assert rest == ["--set", "resume_from_checkpoint=true"]
    if found.nnodes != "1:1":
        assert found.rdzv_backend == "c10d"
        assert found.rdzv_endpoint.endswith(":29500")


@pytest.mark.parametrize("name", ["one_node.sh", "slurm.sbatch"])
def test_scripts_have_no_syntax_error(name: str) -> None:
    subprocess.run(["bash", "-n", str(FOLDER / name)], check=True)


def test_pods_and_places_agree() -> None:
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    words = get_args_parser().parse_args(kubernetes_command()[1:])
    pod = job["spec"]["template"]["spec"]
    assert int(words.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(words.nproc_per_node) == pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert words.rdzv_endpoint == f"{job['metadata']['name']}-0.{service['metadata']['name']}:29500"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


def test_the_keys_that_shard_are_keys_of_a_config(tmp_path: Path) -> None:
    keys = yaml.safe_load((FOLDER / "fsdp.yaml").read_text(encoding="utf-8"))
    given = {**values(tmp_path / "model", tmp_path / "run"), **keys}
    loaded = load_config(config_file(tmp_path / "dpo.yaml", given))
    assert loaded.config.fsdp is True
    assert loaded.config.gradient_checkpointing
    assert loaded.notices == ()


def test_every_recipe_is_listed() -> None:
    listed = re.findall(r"\| `([\w.]+)` \|", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in FOLDER.iterdir() if path.name != "README.md")
