"""What a version consists of: the files of a run, checkpoint, model or adapter folder, with nothing that runs code."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from safetensors import SafetensorError, safe_open

from palate.artifacts import MODEL_FILES, RunDir, file_hash, json_hash, plain, read_json, verify_folder, write_bytes
from palate.artifacts.folders import megabytes
from palate.config.stages.model import MODEL_KEYS
from palate.errors import ArtifactError, MissingInputError

FileFacts: TypeAlias = dict[str, dict[str, Any]]
"""Name → `size` in bytes and `sha256`."""

_RUN = ("data.json", "accuracy.json")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a version before it is added.

    Attributes:
        source: the folder that they come from, absolute.
        kind: whether they are a whole model, or an adapter that needs its base.
        files: name → where it is, or its bytes where paths in it were made absolute.
        run: run.json of the run that wrote them; None for other folders.
        base: folder or hub id of an adapter's base; of a whole model, what it was trained from ("" if not known).
    """

    source: Path
    kind: Literal["model", "adapter"]
    files: Mapping[str, Path | bytes]
    run: Mapping[str, Any] | None
    base: str

    def facts(self) -> FileFacts:
        """Size and hash of every file, as they are now."""
        with megabytes(f"hashing {self.source.name}", self._sizes.values()) as read:
            return {
                name: {"size": len(given), "sha256": hashlib.sha256(given).hexdigest()}
                if isinstance(given, bytes)
                else {"size": given.stat().st_size, "sha256": file_hash(given, read)}
                for name, given in sorted(self.files.items())
            }

    def copy(self, folder: Path) -> None:
        """Write the files into a folder."""
        sizes = self._sizes
        with megabytes(f"copying {self.source.name}", sizes.values()) as copied:
            for name, given in self.files.items():
                if isinstance(given, bytes):
                    write_bytes(folder / name, given)
                else:
                    shutil.copyfile(given, folder / name)
                    copied.advance(sizes[name] / 1e6)

    @property
    def _sizes(self) -> dict[str, int]:
        """Bytes of the files that are copied."""
        return {name: given.stat().st_size for name, given in self.files.items() if isinstance(given, Path)}


def content_hash(files: FileFacts) -> str:
    """SHA-256 over names and hashes of the files, in hex."""
    return json_hash({name: facts["sha256"] for name, facts in files.items()})


def read_contents(source: str | Path) -> Contents:
    """The files of a version.

    Raises:
        ArtifactError: the folder has no complete model in safetensors, its run has not completed, or a file of it
            would run code or is a link to elsewhere.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise MissingInputError(f"{source}: no such folder; name a run, a checkpoint, or a model or adapter folder")
    run = _run_of(folder)
    files: dict[str, Path | bytes] = {
        path.name: _own(path, folder) for path in _paths(folder, MODEL_FILES if run is None else (*MODEL_FILES, *_RUN))
    }
    if run is not None and "data.json" not in files and (folder.parent / "data.json").is_file():  # of a checkpoint
        files["data.json"] = folder.parent / "data.json"
    kind: Literal["model", "adapter"] = "adapter" if "adapter_config.json" in files else "model"
    _check_weights(folder, kind, files)
    _check_code(folder)
    base = ""
    if kind == "adapter":
        config = read_json(folder / "adapter_config.json")
        base = config["base_model_name_or_path"] = _absolute(config.get("base_model_name_or_path") or "")
        files["adapter_config.json"] = _bytes(config)
    if run is not None:
        trained = {**run["config"], **{key: _absolute(run["config"].get(key)) for key in MODEL_KEYS}}
        run = {**run, "config": trained}
        base = trained["model_name_or_path"]
        files["run.json"] = _bytes(run)
    return Contents(folder.resolve(), kind, files, run, base)


def base_files(folders: list[str]) -> dict[str, str]:
    """SHA-256 of the weights, configs and tokenizers in the folders that an adapter needs; hub ids have none here."""
    return {
        str(path): file_hash(path)
        for folder in folders
        if Path(folder).is_dir()
        for path in _paths(Path(folder), ("*.safetensors", "config.json", "adapter_config.json", "tokenizer*"))
    }


def _paths(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _run_of(folder: Path) -> dict[str, Any] | None:
    """run.json of a completed run, or of a complete checkpoint's run with `checkpoint`, its step."""
    if (folder / "run.json").is_file():
        facts = RunDir.open(folder).read()
        if facts.get("status") != "completed" and "checkpoint" not in facts:
            status = facts.get("status", "of unknown status")
            raise ArtifactError(f"{folder}: the run is {status}; add a completed one, or one of its checkpoints")
    else:
        step = _CHECKPOINT.match(folder.resolve().name)
        if step is None or not (folder.resolve().parent / "run.json").is_file():
            return None
        problems = verify_folder(folder)
        if problems:
            raise ArtifactError(f"{folder}: not a complete checkpoint: {'; '.join(problems)}")
        facts = {**RunDir.open(folder.resolve().parent).read(), "checkpoint": int(step[1])}
    if not isinstance(facts.get("config"), dict):
        raise ArtifactError(f"{folder}: run.json has no config, so the model's base and template are not known")
    return facts


def _own(path: Path, folder: Path) -> Path:
    """The path, if it is a file of this folder; the hub's cache has links to its own `blobs`."""
    target, root = path.resolve(), folder.resolve()
    if path.is_symlink() and not any(target.is_relative_to(one) for one in (root, root.parent.parent / "blobs")):
        raise ArtifactError(f"{path}: is a link to a file outside its folder; copy the file there")
    return target


def _check_weights(folder: Path, kind: str, files: Mapping[str, Path | bytes]) -> None:
    """Every weight file can be opened, and every shard that an index names is there."""
    weights = [name for name in files if name.endswith(".safetensors")]
    if kind == "model" and "config.json" not in files:
        raise ArtifactError(f"{folder}: not a model or adapter folder, config.json is missing")
    if not weights:
        raise ArtifactError(
            f"{folder}: no weights (*.safetensors); `palate model convert` makes them of pickles (.bin, .pt)"
        )
    for name in weights:
        try:
            with safe_open(files[name], framework="np") as file:
                file.keys()
        except SafetensorError as error:
            raise ArtifactError(f"{folder / name}: its weights are damaged ({error})") from error
    for name in files:
        if name.endswith(".index.json"):
            missing = sorted(set(read_json(folder / name).get("weight_map", {}).values()) - set(weights))
            if missing:
                raise ArtifactError(f"{folder}: {name} names {missing[0]}, which is missing")


def _check_code(folder: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in read_json(folder / name):
            raise ArtifactError(
                f"{folder / name}: auto_map wants to run the model's own code, which a registry must not; remove it if "
                "transformers has the class itself"
            )


def _absolute(named: Any) -> Any:
    """The name of a model, or a list of them, with the folders of this machine as absolute paths."""
    if isinstance(named, list):
        return [_absolute(one) for one in named]
    return str(Path(named).resolve()) if isinstance(named, str) and named and Path(named).is_dir() else named


def _bytes(value: Any) -> bytes:
    return (json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n").encode()
