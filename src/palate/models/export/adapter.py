"""A LoRA adapter alone, with its tokenizer and the name of its base, as PEFT and engines load it."""

from __future__ import annotations

import shutil
from pathlib import Path

from palate.artifacts import atomic_folder, read_json, write_json
from palate.errors import ModelError
from palate.models.loading.resolve import resolve_name
from palate.models.loading.spec import ModelSpec

_COPIED = ("adapter_model.safetensors", "README.md")


def export_adapter(spec: ModelSpec, folder: Path) -> None:
    """Write the model's adapter; its base is an absolute path, or a hub id.

    Raises:
        ModelError: the model has no adapter, or needs several.
    """
    if not spec.adapters:
        raise ModelError(f"{spec.name}: is a whole model, not an adapter; export it with --merged")
    if len(spec.adapters) > 1:
        raise ModelError(
            f"{spec.name}: its adapter belongs on a base into which {', '.join(spec.adapters[:-1])} was merged first; "
            "export it with --merged"
        )
    source, base = Path(spec.adapters[0]), resolve_name(spec.model)
    tokenizer = spec.tokenizer()
    spec.chat_template(tokenizer)  # writes a named template into the tokenizer
    config = read_json(source / "adapter_config.json")
    config["base_model_name_or_path"] = str(Path(base).resolve()) if Path(base).is_dir() else base
    config["revision"] = spec.revision
    with atomic_folder(folder) as scratch:
        for name in _COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, scratch / name)
        write_json(scratch / "adapter_config.json", config)
        tokenizer.save_pretrained(scratch)
