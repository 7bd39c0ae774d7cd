"""Every page of the manual is typed top to bottom: its files, commands and Python, on a tiny model.

What a page takes for granted is made by doc_world.py; doc_shell.py is the terminal.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from doc_pages import PAGES, REPOSITORY, RUN_PAGES, Block, blocks, command_lines
from doc_shell import Shell
from doc_world import GIVEN, MEANWHILE, TYPED_BEFORE, inside, make_engine, make_world, variables

TYPED = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "configs" / "README.md", *PAGES]
NOT_TYPED: Mapping[str, tuple[str, ...]] = {
    "makes an environment": ("make demo", "make install && . .venv/bin/activate", "make bench-env"),
    "runs the tests": ("make check", "make test", "make versions"),
    "installs packages": (
        "pip install datasketch rensa",
        "pip install ./examples/plugin",
        "pip install 'palate[mlflow]'",
        "pip install torch==2.13.0 FLAGS",
        r"sed '/^\(torch\|triton\|nvidia-[^=]*\|cuda-[^=]*\)==/,/[^\\]$/d' requirements.lock > cpu.lock",
        "pip install --require-hashes -r cpu.lock",
    ),
    "trains twelve layers; tests/end_to_end/test_demo.py": ("palate demo --output runs/demo",),
    "shows its page until Ctrl-C": ("tensorboard --logdir runs/first/runs",),
    "minutes to hours": (
        "make compat",
        'python benchmarks/architectures.py llama "qwen 3"',
        "python benchmarks/busy.py",
        "python benchmarks/busy.py --wait default",
        "python benchmarks/capacity.py --computed docs/plan.md",
        "OMP_NUM_THREADS=1 python benchmarks/capacity.py --steps 2 --batch 2 --lengths 512",
        "OMP_NUM_THREADS=1 python benchmarks/capacity.py --steps 2 --batch 2 --lengths 128",
        "python benchmarks/generation.py",
        "python benchmarks/gpu.py --dry-run",
        "python benchmarks/label_load.py",
        "python benchmarks/large_data.py --folder FOLDER",
        "python benchmarks/pieces.py",
        "python benchmarks/roofline.py",
        "python benchmarks/scaling.py",
        "python benchmarks/serve.py --batch",
        "python benchmarks/serve.py",
        "python benchmarks/soak.py",
        "python benchmarks/soak.py --minutes 2",
        "python benchmarks/train_speed.py",
        "python benchmarks/train_speed.py --epochs 3",
        "python benchmarks/train_speed.py --epochs 3 --warm-store",
        "python benchmarks/train_speed.py --mode lora",
        "python benchmarks/train_speed.py --mode last --epochs 3",
        "python benchmarks/train_speed.py --prompt-ratio 3",
        "python benchmarks/train_speed.py --precision fp32 --rounds 1",
        "python experiments/run.py online",
        "python experiments/run.py overfitting",
        "python experiments/run.py recipe",
        "python experiments/run.py sentiment",
        "python experiments/run.py starts",
        "python experiments/run.py sweeps",
        "python experiments/run.py temperature",
        "tools/evaluate_demo.sh sets runs/demo-evaluation 100",
    ),
    "writes into docs/": (
        "python benchmarks/tables.py docs/performance.md",
        "python benchmarks/tables.py docs/plan.md",
        "python experiments/publish.py",
    ),
    "needs data of the measurement": (
        "python benchmarks/data_speed.py ../shared/data/preference/ultrafeedback_1k_train.jsonl "
        "../shared/data/preference/hh_harmless_base_test.jsonl.gz --model smollm2-135m-instruct",
        "RAYON_NUM_THREADS=1 python benchmarks/near_duplicates.py "
        "../shared/data/preference/ultrafeedback_1k_train.jsonl "
        "../shared/data/preference/hh_harmless_base_test.jsonl.gz --rows 3000",
        "python benchmarks/languages.py ../shared/data",
    ),
    "needs a GPU": (
        "make gpu",
        "palate train configs/lora_8b.yaml",
        "palate train configs/qlora_8b.yaml",
        "torchrun --nproc_per_node 4 -m palate train configs/lora_8b.yaml",
        "torchrun --nproc_per_node 4 -m palate train fsdp.yaml",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve Qwen/Qwen3-8B --enable-lora --max-lora-rank 64",
    ),
    "starts several processes; tests/invariants do": (
        "torchrun --nproc_per_node 2 -m palate train run.yaml",
        "torchrun --nproc_per_node 4 -m palate train run.yaml --set deepspeed=ds_z3.json",
    ),
    "needs the network": ("palate model export production --hub owner/name",),
    "needs a model that answers with a letter": ("palate eval bench safetybench runs/dpo --data zh --prompt written",),
    "needs the example package; tests/test_plugins.py": (
        "palate objectives squared_hinge",
        "palate train configs/recommended.yaml --set pref_loss=squared_hinge",
        "palate judge candidates.jsonl --judge alphabet",
    ),
    "needs another program": (
        "palate model export production --gguf ../llama.cpp --dtype fp16 --output model.gguf",
        "palate model export production --mlflow http://mlflow:5000",
        "palate model export v1.1 --mlflow tracking",
        "palate eval bench --harness arc_easy runs/dpo --output results",
        "palate eval bench --harness my_task runs/dpo --data my-tasks --output results",
        "createdb palate",
        "PALATE_STORE=postgresql://me@localhost/palate palate label import --candidates candidates.jsonl",
        "pg_dump --format=custom palate > backup.dump",
        "podman build -t palate -f Containerfile .",
        'podman build -t palate --build-arg TORCH_FLAGS="FLAGS" -f Containerfile .',
        'podman run --rm -v "$PWD":/data palate doctor',
        'podman run --rm -v "$PWD":/data palate demo',
        'podman run --rm -v "$PWD":/data --device nvidia.com/gpu=all palate train run.yaml',
        'podman run --rm -it -v "$PWD":/data palate label users add anna --role admin',
        'podman run --rm -v "$PWD":/data -p 127.0.0.1:8000:8000 palate label serve --host 0.0.0.0 --no-open',
        'podman run --rm -v "$PWD":/data palate keys create chat-ui',
        'podman run --rm -v "$PWD":/data -p 127.0.0.1:8000:8000 palate serve --model runs/dpo --host 0.0.0.0',
        'eval "$(_PALATE_COMPLETE=source_zsh palate)"',
        "_PALATE_COMPLETE=source_fish palate | source",
        "python examples/ray/generate_and_judge.py prompts.jsonl out --model qwen3-8b --shards 16 --workers 4 "
        "--base-url http://10.0.0.1:8000/v1,http://10.0.0.2:8000/v1 --judge openai:judge@http://10.0.0.3:8000/v1",
    ),
}
"""Why → commands of the pages that do not run here, word by word; test_commands.py parses them too."""
SAME_OUTPUT = {"docs/plan.md"}
"""Pages whose output does not depend on the machine, nor on what a model says."""
SKIPPED = {command for commands in NOT_TYPED.values() for command in commands}
PROGRAMS = re.compile(r"(?:[A-Z_]+=\S+ )*python (\S+\.py)(.*)")


def typed(block: Block) -> bool:
    return block.language in ("sh", "python") or bool(block.title)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    with HTTPServer(host="127.0.0.1", port=0, threaded=True) as server:
        yield make_engine(server)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in TYPED if any(map(typed, blocks(page)))], ids=lambda page: page.stem)
def test_it_can_be_typed(page: Path, world: Path, engine: str, tmp_path: Path) -> None:
    folder, name = tmp_path / "files", str(page.relative_to(REPOSITORY))
    if page in RUN_PAGES:  # a newcomer's: it takes nothing for granted but the presets
        shutil.copytree(world / "files" / "configs", folder / "configs")
    else:
        shutil.copytree(world / "files", folder, symlinks=True)
    names: dict[str, Any] = {"__name__": page.stem}
    with inside(folder, world):
        for prepare in GIVEN.get(name, ()):
            prepare(folder)
    with inside(folder, world), Shell({**variables(world), "PALATE_BASE_URL": engine}, engine) as shell:
        for command in TYPED_BEFORE.get(name, ()):
            shell.run(command)
        if page not in RUN_PAGES:  # files of a page that explains may stand below the commands
            for block in blocks(page):
                write(block, folder, shell)
        for block in blocks(page):
            write(block, folder, shell)
            for command in command_lines(block.text) if block.language == "sh" else ():
                if command in SKIPPED:
                    continue
                try:
                    shell.run(command)
                except AssertionError as error:
                    raise AssertionError(f"{block.where}: {command}\n{error}") from None
                MEANWHILE.get((name, command), lambda _: None)(folder)
            if block.language == "text" and name in SAME_OUTPUT:
                check_output(block, shell.output)
            if block.language == "python" and not block.title:
                exec(compile(shell.addressed(block.text), block.where, "exec"), names)


def check_output(block: Block, output: str) -> None:
    """Every line of a block, but those with an ellipsis, must have been printed by the command above it."""
    if not block.text.startswith("palate "):  # a synopsis
        missing = [line for line in block.text.splitlines() if "…" not in line and line not in output]
        assert missing == [], f"{block.where} is not what is printed"


def write(block: Block, folder: Path, shell: Shell) -> None:
    """Write the file that a block shows, if it shows one."""
    if block.title:
        (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.title).write_text(shell.addressed(block.text) + "\n", encoding="utf-8")


def shown() -> list[tuple[Block, str]]:
    return [(block, command) for page in TYPED for block in blocks(page) if block.language == "sh"
            for command in command_lines(block.text)]  # fmt: skip


def test_what_does_not_run_is_on_a_page() -> None:
    commands = {command for _, command in shown()}
    assert SKIPPED - commands == set(), "no page has these any more"
    assert len(SKIPPED) == sum(map(len, NOT_TYPED.values())), "one is there twice"
    assert len(commands - SKIPPED) > 2 * len(SKIPPED)


def test_programs_that_do_not_run_have_the_options_that_are_shown() -> None:
    wrong = []
    for block, command in shown():
        if found := PROGRAMS.match(command):
            program = REPOSITORY / found[1]
            text = program.read_text(encoding="utf-8") if program.is_file() else ""
            text += "".join(path.read_text(encoding="utf-8") for path in program.parent.glob("_*.py"))
            wrong += [f"{block.where}: {command}: {name}" for name in re.findall(r"--[a-z][\w-]*", found[2])
                      if f'"{name}"' not in text]  # fmt: skip
            assert program.is_file(), f"{block.where}: {command}"
    assert wrong == []


def test_targets_of_make_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = {word for _, command in shown() if command.startswith("make ") for word in command.split()[1:2]}
    assert "bench-env" in named
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("command", ["palate data inspect missing.jsonl", "palate keys create", "test -e missing"])
def test_a_command_that_fails_is_seen(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError), Shell(os.environ, "http://127.0.0.1:1/v1") as shell:
        shell.run(command)


def test_the_shell_knows_what_the_pages_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(
            '{"prompt": "p", "chosen": "yes", "rejected": "no"}\n', encoding="utf-8"
        )
    with Shell({**os.environ, "KIND": "sigmoid"}, "http://127.0.0.1:1/v1") as shell:
        shell.run("palate objectives $KIND --json > one.json && palate data convert *.jsonl --to trl -o all.json")
        shell.run("cat all.json | grep -o '\"chosen\"' | wc -l")
        assert shell.output.strip() == "2", "a row of each file that *.jsonl matches"
    assert '"sigmoid"' in (tmp_path / "one.json").read_text(encoding="utf-8")
