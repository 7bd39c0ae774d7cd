"""Every error that palate raises on purpose, and the hint of its messages about unknown names.

    PalateError                 exit 1: something failed; the message is one line that names the remedy
    ├── UsageError              exit 2: the command line is wrong
    │   └── ConfigError         exit 2: a config key or value is wrong
    ├── DataError               a dataset cannot be read, or nothing usable is left in it
    ├── ModelError              a model, adapter or tokenizer cannot be loaded or does not fit the task
    ├── ArtifactError           a run directory, checkpoint or cache is missing, damaged or in the way
    ├── StoreError              the database cannot be opened, or is of another version
    │   └── MissingStoreError   exit 2: there is no such database
    ├── EngineError             an engine over the network does not answer, or not with what was asked for
    │   └── EngineRefused       it answered, and will not do it however often it is asked
    ├── MissingInputError       exit 2: a file, folder or model that was named does not exist
    ├── FunctionError           a user's own function fails, or gives something else than was asked for
    ├── TrainingError           a run went wrong while it trained
    │   └── NonFiniteError      a loss or gradient was NaN or infinite; the weights were not touched
    └── Stopped                 exit 130 or 143: a signal ended the run after a resumable checkpoint

    KeyboardInterrupt
    ├── BatchStop               a first signal, raised between two batches; becomes `Stopped`
    └── Interrupted             exit 130 or 143: a second signal, which ends the run where it is

`cli` prints the message of a PalateError as a single line and exits with its code. Everything else is a bug and
shows its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PalateError(Exception):
    """Base of all expected failures. `str(error)` is one line fit for a person."""

    exit_code: int = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print, line by line."""
        return (str(self),)


class UsageError(PalateError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class ConfigError(UsageError):
    """A config key is unknown, has a wrong value, or does not apply to the chosen method.

    Made of one line for each key that is wrong; `lines` has them one by one, `str` in a row.
    """

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(str, self.args)))

    def __str__(self) -> str:
        return "; ".join(self.lines)


class DataError(PalateError):
    """A dataset cannot be read, is not recognised, or has nothing usable in it."""


class ModelError(PalateError):
    """A model, adapter or tokenizer cannot be loaded, or cannot do what is asked of it."""


class ArtifactError(PalateError):
    """A run directory, checkpoint or cache file is missing, damaged, foreign or in the way."""


class MissingInputError(DataError, ModelError, ArtifactError):
    """A file, folder or model that the command line or the config names does not exist."""

    exit_code = 2


class StoreError(PalateError):
    """The database cannot be reached or written to, is not palate's, or is of a newer version."""


class MissingStoreError(StoreError):
    """The database that is named does not exist."""

    exit_code = 2


class EngineError(PalateError):
    """An OpenAI-compatible engine cannot be reached, refuses, or answers with something else than was asked for.

    Attributes:
        status: the HTTP status, if there was one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class EngineRefused(EngineError):  # noqa: N818 - says what it did
    """An engine will not serve a request: the key, the model or the request itself is wrong."""


class FunctionError(PalateError):
    """A function that the config or the command line names fails, or gives something else than was asked for."""


class TrainingError(PalateError):
    """A run went wrong while it trained."""


class NonFiniteError(TrainingError):
    """A loss or a gradient was not finite. Raised before the optimiser touches the weights."""


class Stopped(PalateError):  # noqa: N818 - stopping is no error
    """A signal asked the run to stop; a resumable checkpoint was written first.

    Attributes:
        exit_code: 128 + the signal's number (130 for Ctrl-C, 143 for SIGTERM).
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class BatchStop(KeyboardInterrupt):
    """A first signal between two batches. What was scored is kept. No `except Exception` on its way keeps it.

    Attributes:
        signal_number: of the signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted")
        self.signal_number = signal_number


class Interrupted(KeyboardInterrupt):
    """A second signal, before the first had its step's end: stop at once. No `except Exception` on its way keeps it.

    Attributes:
        exit_code: 128 + the signal's number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("a second signal ended the run at once")
        self.exit_code = 128 + signal_number


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean X?` with the known name that is most like this one; without one, what is said otherwise."""
    near = get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise
