"""Files on disk: atomic writes, JSON lines, run directories, sealed checkpoints.

`atomic_file` and `atomic_folder` write under a temporary name in the same folder, sync, rename and sync the folder, so
a reader sees either the old content or the new, never a part of it. A folder of many files (a checkpoint) is complete
when it has a seal, which is written last and lists every file with size and hash. A disk error becomes one
`ArtifactError` line with the path and the fix.
"""

from __future__ import annotations

from palate.artifacts.files import (
    PathLike,
    atomic_file,
    check_writable,
    file_name,
    json_hash,
    plain,
    read_json,
    temporary_path,
    write_bytes,
    write_errors,
    write_json,
    write_text,
)
from palate.artifacts.folders import (
    SEAL,
    atomic_folder,
    check_weights,
    checkpoints,
    file_hash,
    newest_complete,
    remove_folder,
    remove_leftovers,
    seal_folder,
    verify_folder,
)
from palate.artifacts.jsonl import JsonlWriter, iter_jsonl, read_jsonl
from palate.artifacts.locks import sole_writer
from palate.artifacts.run_dir import MODEL_FILES, RunDir, Status, now

__all__ = [
    "MODEL_FILES",
    "SEAL",
    "JsonlWriter",
    "PathLike",
    "RunDir",
    "Status",
    "atomic_file",
    "atomic_folder",
    "check_weights",
    "check_writable",
    "checkpoints",
    "file_hash",
    "file_name",
    "iter_jsonl",
    "json_hash",
    "newest_complete",
    "now",
    "plain",
    "read_json",
    "read_jsonl",
    "remove_folder",
    "remove_leftovers",
    "seal_folder",
    "sole_writer",
    "temporary_path",
    "verify_folder",
    "write_bytes",
    "write_errors",
    "write_json",
    "write_text",
]
