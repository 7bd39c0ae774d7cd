"""The command as a process sees it: exit codes, one line for each failure, a quick start."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import typer

from palate import __version__
from palate.cli import main as cli
from palate.cli.train import plan
from palate.errors import ConfigError, DataError, MissingInputError, Stopped
from palate.threads import CHOICES


@pytest.fixture
def fails_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run `palate plan x.yaml` where reading the config raises what is given."""

    def run(error: BaseException) -> int:
        def load_config(*_: object) -> None:
            raise error

        fake = ModuleType("palate.config.load")
        fake.load_config = load_config  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "palate.config.load", fake)
        pipeline: Any = ModuleType("palate.config.pipeline")
        pipeline.is_pipeline, pipeline.load_pipeline = (lambda *_: False), load_config
        monkeypatch.setitem(sys.modules, "palate.config.pipeline", pipeline)
        sweep: Any = ModuleType("palate.config.sweep")
        sweep.is_sweep, sweep.load_sweep = (lambda *_: False), load_config
        monkeypatch.setitem(sys.modules, "palate.config.sweep", sweep)
        monkeypatch.setattr("palate.cli.train.plan.with_model_paths", lambda _, changes: changes)
        return cli.main(["plan", "x.yaml"])

    return run


def palate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "palate", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_version() -> None:
    done = palate("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"palate {__version__}")


def test_help_loads_nothing_slow() -> None:
    code = (
        "import sys\nfrom palate.cli.main import main\nassert main(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert f"palate {verb}" in capsys.readouterr().out


def test_every_command_has_an_example_in_its_help() -> None:
    def leaves(command: Any, path: str) -> Iterator[tuple[str, str]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from leaves(inner, f"{path} {name}")
        if not hasattr(command, "commands"):
            yield path, command.help or ""

    lacking = [
        path for path, text in leaves(typer.main.get_command(cli.app), "palate") if "Example: palate " not in text
    ]
    assert lacking == []


def test_no_option_is_cut_off_in_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["label", "export"], ["keys", "create"], ["train"], ["model", "export"], ["eval", "bench"]):
        assert cli.main([*words, "--help"]) == 0
        page = capsys.readouterr().out
        assert max(map(len, page.splitlines())) == 80
        assert not re.search(r"-[\w-]*…", page), words


@pytest.mark.parametrize(("words", "found"), [("palate tr", "train"), ("palate data inspect --te", "--template")])
def test_the_shell_completes(words: str, found: str) -> None:
    done = palate(_PALATE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert done.stdout.split() == [found]


def test_every_verb_is_listed_and_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    page = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert hasattr(verb, "command") or hasattr(verb, "app"), f"cli/{name}.py has neither command nor app"
    listed = [line.split()[1] for line in page.splitlines() if line.startswith("│ ") and line[2].isalpha()]
    assert listed == list(cli.VERBS), "the order of the help page"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["plan", "a.yaml", "--sett", "x=1"], "--set"),
        (["plan"], "no config file is named"),
        (["plan", "a.yaml", "--set"], "--set"),
        (["plan", "a.yaml", "b.yaml"], "one config file at a time, not a.yaml, b.yaml"),
        (["plan", "a.yaml", "--config_file", "b.yaml"], "one config file at a time"),
        (["plan", "no-such-file.yaml"], "no such config file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("palate: error: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_an_option_without_its_value_names_the_help_of_its_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for words, verb in ((["serve", "--port"], "serve"), (["model", "add", "x", "--json=1"], "model add")):
        assert cli.main(words) == 2
        assert capsys.readouterr().err.endswith(f"(see `palate {verb} --help`)\n")


def test_a_verb_of_verbs_alone_says_that_one_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    for name, verb in cli.VERBS.items():
        if hasattr(verb, "app"):
            assert cli.main([name]) == 2
            # `palate judge` has a command that needs not be named.
            missing = "Missing argument 'CANDIDATES.jsonl'" if name == "judge" else "no command is named"
            assert capsys.readouterr().err == f"palate: error: {missing} (see `palate {name} --help`)\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("pairs.jsonl:3: broken"), 1),
        (MissingInputError("pairs.jsonl: no such file"), 2),
        (ConfigError("run.yaml:3: wrong"), 2),
        (Stopped("stopped after step 3", 15), 143),
    ],
)
def test_an_expected_failure_is_one_line(
    fails_with: Callable[[BaseException], int], error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(error) == code
    assert capsys.readouterr().err == f"palate: error: {error}\n"


def test_a_message_of_several_lines_becomes_one(
    fails_with: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    fails_with(DataError("first [bold]\n  second"))
    assert capsys.readouterr().err == "palate: error: first [bold] second\n"


def test_ctrl_c_is_130(fails_with: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fails_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "palate: error: interrupted\n"


def test_a_bug_shows_its_traceback(fails_with: Callable[[BaseException], int]) -> None:
    with pytest.raises(ZeroDivisionError):
        fails_with(ZeroDivisionError("a bug"))


def test_of_several_processes_one_complains_about_the_config() -> None:
    assert palate("plan", "none.yaml", RANK="0").stderr.startswith("palate: error: none.yaml")
    second = palate("plan", "none.yaml", RANK="1")
    assert (second.returncode, second.stderr) == (2, "")
    on_other_machine = palate("plan", "none.yaml", RANK="8", LOCAL_RANK="0").stderr
    assert on_other_machine.startswith("palate: error (process 8): none.yaml"), "it may be missing there only"


def test_what_fails_in_one_process_only_is_said_with_its_rank(
    fails_with: Callable[[BaseException], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert fails_with(DataError("no space left")) == 1
    assert capsys.readouterr().err == "palate: error (process 3): no space left\n"


def test_a_terminal_that_cannot_show_greek_gets_escapes() -> None:
    done = palate("objectives", "sigmoid", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "lσ(βΔ)".encode("ascii", "backslashreplace").decode() in done.stdout


def test_a_closed_pipe_is_quiet() -> None:
    code = (
        "import sys\nfrom palate.cli import main\nfrom palate.cli.train import plan\n"
        "def endless(*_, **__):\n"
        "    while True:\n        sys.stdout.write('x' * 65536)\n"
        "plan.config_and_overrides = endless\n"
        "sys.exit(main.main(['plan', 'x.yaml']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(timeout=120) == 1
    assert error == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")  # noqa: PTH110
@pytest.mark.parametrize("arguments", [["objectives"], ["objectives", "--json"], ["--version"], ["train", "--help"]])
def test_a_full_stdout_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "palate", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == (
        "palate: error: the result could not be written to standard output: No space left on device\n"
    )


@pytest.mark.parametrize(("closing", "code"), [(">&-", 0), ("2>&-", 0), ("2>/dev/full", 0)])
def test_a_stream_that_is_closed_or_full_is_no_traceback(closing: str, code: int) -> None:
    script = f'"{sys.executable}" -m palate objectives sigmoid {closing}; echo "code $?"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"code {code}"
    assert done.stderr == ""


@pytest.mark.parametrize("moment", [0.15, 0.3, 0.6])
def test_ctrl_c_while_the_command_starts_is_one_line(moment: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in (*CHOICES, "OMP_NUM_THREADS")},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the interpreter itself is up
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert error == "palate: error: interrupted\n"


# A command that takes as long as it needs to be met while it starts or while it runs.
STARTING = """
import time
from palate import __main__
print("up", flush=True)
import builtins
real = builtins.__import__
def slow(name, *args, **kwargs):
    if name.startswith("palate.cli"):
        time.sleep(0.05)
    return real(name, *args, **kwargs)
builtins.__import__ = slow
import sys
sys.argv = ["palate", "objectives"]
from palate import threads
threads.others_running = lambda: time.sleep(60)
__main__.run()
"""


def test_plan_is_the_module_that_the_fixture_breaks() -> None:
    assert plan is cli.VERBS["plan"]
