"""Files on disk: atomic writes, JSON lines, run directories, sealed checkpoints.

`atomic_file` and `atomic_folder` write under a temporary name in the same folder, sync, rename and sync the folder, so
a reader sees either the old content or the new, never a part of it. A folder of many files (a checkpoint) is complete
when it has a seal, which is written last and lists every file with size and hash. A disk error becomes one
`ArtifactError` line with the path and the fix.
"""

from __future__ import annotations

from palate.artifacts.files import atomic_file as atomic_file
from palate.artifacts.files import check_writable as check_writable
from palate.artifacts.files import file_name as file_name
from palate.artifacts.files import json_hash as json_hash
from palate.artifacts.files import plain as plain
from palate.artifacts.files import read_json as read_json
from palate.artifacts.files import temporary_path as temporary_path
from palate.artifacts.files import write_bytes as write_bytes
from palate.artifacts.files import write_errors as write_errors
from palate.artifacts.files import write_json as write_json
from palate.artifacts.files import write_text as write_text
from palate.artifacts.folders import SEAL as SEAL
from palate.artifacts.folders import atomic_folder as atomic_folder
from palate.artifacts.folders import check_weights as check_weights
from palate.artifacts.folders import checkpoints as checkpoints
from palate.artifacts.folders import file_hash as file_hash
from palate.artifacts.folders import newest_complete as newest_complete
from palate.artifacts.folders import remove_folder as remove_folder
from palate.artifacts.folders import remove_leftovers as remove_leftovers
from palate.artifacts.folders import seal_folder as seal_folder
from palate.artifacts.folders import verify_folder as verify_folder
from palate.artifacts.jsonl import JsonlWriter as JsonlWriter
from palate.artifacts.jsonl import iter_jsonl as iter_jsonl
from palate.artifacts.jsonl import read_jsonl as read_jsonl
from palate.artifacts.locks import sole_writer as sole_writer
from palate.artifacts.run_dir import MODEL_FILES as MODEL_FILES
from palate.artifacts.run_dir import RunDir as RunDir
from palate.artifacts.run_dir import now as now
