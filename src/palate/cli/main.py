"""The `palate` command. Each verb has a file that parses its arguments, calls the package that does it, and prints.

Exit codes: 0 done; 1 failed, or a check did not pass, with one clear line on stderr; 2 wrong usage, a wrong config, or
a file or model that does not exist; 3 a gate without enough evidence; 130 and 143 stopped by a signal. A traceback
means a bug in palate.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer import Context, Exit, Option, Typer
from typer.exceptions import Abort, TyperException

from palate import __version__
from palate.cli import compare, config, doctor, generate, report, web
from palate.cli.arguments import add_output_options, verb_group
from palate.cli.chat import verb as chat
from palate.cli.console import print_error, process_rank
from palate.cli.data import app as data
from palate.cli.eval import app as evaluate
from palate.cli.judge import app as judge
from palate.cli.label import app as label
from palate.cli.loop import app as loop
from palate.cli.model import app as model
from palate.cli.objectives import verb as objectives
from palate.cli.serve import interactions, keys
from palate.cli.serve import verb as serve
from palate.cli.train import demo, init, plan
from palate.cli.train import verb as train
from palate.errors import Interrupted, PalateError
from palate.threads import choose_wait_policy

# In the order of the help page, which is that of a user's life. Each module has a `command` function, or an `app` of
# sub-commands, and imports slow packages (torch, transformers, pyarrow) inside its functions, so that `palate --help`
# answers at once.
VERBS: Mapping[str, ModuleType] = {
    "demo": demo,
    "doctor": doctor,
    "data": data,
    "init": init,
    "plan": plan,
    "train": train,
    "eval": evaluate,
    "report": report,
    "compare": compare,
    "chat": chat,
    "generate": generate,
    "label": label,
    "judge": judge,
    "loop": loop,
    "model": model,
    "serve": serve,
    "web": web,
    "keys": keys,
    "interactions": interactions,
    "objectives": objectives,
    "config": config,
}

_INTERRUPTED = 130

app = Typer(
    cls=verb_group(order=tuple(VERBS)),
    help="Fine-tune language models on preference data.",
    epilog="Start with `palate demo`, or with `palate init pairs.jsonl --model smollm2-135m-instruct`.\n\n"
    "Every verb has a --help with an example, and a page in docs/.",
    add_completion=True,  # --show-completion and --install-completion
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"palate {__version__}")
        raise Exit


@app.callback(invoke_without_command=True)
def _root(
    context: Context,
    _version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise Exit(2)


for _name, _verb in VERBS.items():
    if hasattr(_verb, "app"):
        app.add_typer(_verb.app, name=_name)
    else:
        app.command(_name)(_verb.command)
add_output_options(app)


def _command_path(arguments: Sequence[str]) -> str:
    """`palate` with the verbs that the arguments begin with: the parser does not say where an option has no value."""
    command: Any = typer.main.get_command(app)
    path = ["palate"]
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        path.append(word)
    return " ".join(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; expected failures become one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(args=arguments, prog_name="palate", standalone_mode=False)
        sys.stdout.flush()
        if code == _INTERRUPTED:
            print_error("interrupted")  # Typer has made an exit code of Ctrl-C
        return code if isinstance(code, int) else 0
    except PalateError as error:
        # Wrong input fails in every process of a machine, so only the first one prints it; other errors are printed
        # by each. A file may be missing on the second machine only.
        if error.exit_code != 2 or os.environ.get("LOCAL_RANK", str(process_rank())) == "0":
            for line in error.lines:
                print_error(line)
        if isinstance(error, OutputError):
            _discard_output()
        return error.exit_code
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else _command_path(arguments)
        message = error.format_message().replace("Value error, ", "").rstrip(".") or "no command is named"
        print_error(f"{message} (see `{path} --help`)")
        return error.exit_code
    except (KeyboardInterrupt, Abort) as error:
        print_error(str(error) or "interrupted")
        return error.exit_code if isinstance(error, Interrupted) else _INTERRUPTED
    except BrokenPipeError:
        # The reader closed the pipe, as in `palate … | head`.
        _discard_output()
        return 1


def run() -> NoReturn:
    """Runs the command line of this process and exits."""
    _prepare_streams()
    try:
        choose_wait_policy()
        code = main()
    except KeyboardInterrupt:
        print_error("interrupted")
        code = _INTERRUPTED
    sys.exit(code)


def _prepare_streams() -> None:
    """Streams that escape what the terminal cannot show, and whose write errors are not tracebacks."""
    for name, kind in (("stdout", _Results), ("stderr", _Messages)):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as in `palate … >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show β gets \\u03b2.
            wrapped = kind(stream.buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)
            setattr(sys, name, wrapped)


class OutputError(PalateError):
    """The result could not be written to stdout."""


class _Results(io.TextIOWrapper):
    """stdout, on which a failed write becomes a one-line error."""

    def write(self, text: str) -> int:
        with _refused_output():
            return super().write(text)

    def flush(self) -> None:
        with _refused_output():
            super().flush()


class _Messages(io.TextIOWrapper):
    """stderr, on which a failed write (a full disk, a closed terminal) is ignored, so that it does not end a run."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def _refused_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the result could not be written to standard output: {error.strerror or error}") from None


def _discard_output() -> None:
    """Redirects stdout to nowhere: Python flushes it again when it exits, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
