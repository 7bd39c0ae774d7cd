"""How near a full fine-tuning step comes to the machine's matrix products, and where the rest of its time goes.

    python benchmarks/roofline.py                    bf16 where the processor multiplies it
    python benchmarks/roofline.py --precision fp32

The peak is measured: the best rate over the shapes that the model multiplies, forward and backward, and over squares.
The step is the real one (`palate.training.run.train`), first alone for its time and then under the profiler for the
shares of its parts. What a step needs is counted in `_flops.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from _flops import Flops, Shape, forward_flops, shape_of, training_flops
from _measure import (
    Report,
    located,
    model_and_source,
    positive,
    precision_option,
    results_option,
    say,
    write_result,
)
from _pairs import short_pairs, write_jsonl
from _products import SQUARE, peak
from tables import roofline_table
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import TrainerCallback

import palate.models.cpu.sublayers as sublayers
import palate.models.scoring.forward as forward
import palate.training.run as training_run
from palate.config.load import config_from_values
from palate.models.loading.load import load_model, load_tokenizer
from palate.text.groups import EncodedGroup
from palate.text.template import load_template
from palate.training.trainer import PalateTrainer

PARTS = ("attention", "head", "optimiser", "data")
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm")
# Ranges that PyTorch itself names, by the part that they belong to.
_KNOWN_RANGES = {
    "_PlainHeadBackward": "head",
    "_HeadLogpsBackward": "head",
    "Optimizer.step#": "optimiser",
    "Optimizer.zero_grad#": "optimiser",
    "enumerate(DataLoader)": "data",
}


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as folder:
        result = measure(options, Path(folder))
    result = located(result)
    path = write_result(f"roofline-{options.precision}", result, options.results)
    print(roofline_table([result]))
    say(f"written: {path}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Achieved FLOP/s of a training step against the measured peak.")
    precision_option(parser)
    parser.add_argument("--pairs", type=positive, default=16)
    parser.add_argument("--batch", type=positive, default=4, help="pairs of an optimiser step")
    parser.add_argument("--epochs", type=positive, default=2)
    parser.add_argument("--cutoff-len", type=positive, default=512)
    parser.add_argument("--peak-seconds", type=float, default=0.5, help="time for each shape of the peak")
    model_and_source(parser)
    results_option(parser)
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> Report:
    template = load_template(load_tokenizer(options.model), None)
    rows = short_pairs(options.source, template, rows=options.pairs, cutoff_len=options.cutoff_len)
    pairs = write_jsonl(folder / "pairs.jsonl", rows)
    model: Any = load_model(options.model, device=torch.device("cpu"))
    shape, layers = shape_of(model), product_shapes(model)
    del model
    before = peak(layers, options.peak_seconds)
    say(f"peak before: { {name: f'{rate / 1e9:.0f} GFLOP/s' for name, rate in before.items()} }")
    quiet = run(options, pairs, folder / "quiet", profiled=False)
    profiled = run(options, pairs, folder / "profiled", profiled=True)
    after = peak(layers, options.peak_seconds)
    rates = {name: max(before[name], after[name]) for name in before}
    return summary(options, shape, rates, quiet, profiled)


# ---- the machine's peak


def product_shapes(model: Any) -> list[tuple[int, int]]:
    """(outputs, inputs) of every linear map, the head included, and squares for a fair peak."""
    weights = {m.weight.shape for m in model.modules() if isinstance(m, torch.nn.Linear)}
    return sorted({(int(o), int(i)) for o, i in weights} | {SQUARE, (4096, 4096)})


# ---- the step


@dataclass
class Watch:
    """What one run leaves behind.

    Attributes:
        groups: of each step.
        ends: time of each step's end.
        seconds: of the run's phases, from its run.json.
        parts: seconds by part within the profiled steps; empty without the profiler.
    """

    groups: list[list[EncodedGroup]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def step_seconds(self) -> float:
        """All steps but the first, which has to warm up, from end to end."""
        return self.ends[-1] - self.ends[0]

    @property
    def measured_groups(self) -> list[EncodedGroup]:
        """The groups of those steps."""
        return [group for groups in self.groups[1:] for group in groups]


def run(options: argparse.Namespace, pairs: Path, folder: Path, *, profiled: bool) -> Watch:
    """Train as a user does, with a clock at every step's end."""
    watch = Watch()
    profiler = profile(activities=[ProfilerActivity.CPU]) if profiled else None
    os.environ["PALATE_REFERENCES"] = str(folder.with_suffix(".references"))
    with patch.object(training_run, "PalateTrainer", _watched(watch, profiler)), _named_parts():
        result = training_run.train(config_from_values(_config(options, pairs, folder)).config)
    watch.seconds = json.loads((result.output_dir / "run.json").read_text(encoding="utf-8"))["timings"]
    if profiler is not None:
        watch.parts = _seconds_by_part(profiler.events())  # type: ignore[no-untyped-call]
    return watch


def _config(options: argparse.Namespace, pairs: Path, folder: Path) -> dict[str, Any]:
    return {
        "stage": "dpo",
        "model_name_or_path": options.model,
        "dataset": str(pairs),
        "output_dir": str(folder),
        "cutoff_len": options.cutoff_len,
        "precision": options.precision,
        "per_device_train_batch_size": options.batch,
        "num_train_epochs": options.epochs,
        "save_strategy": "no",
        "report_to": "none",
        "sample_prompts": 0,
    }


def _watched(watch: Watch, profiler: profile | None) -> type[PalateTrainer]:
    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            if profiler is not None and state.global_step == state.max_steps:
                profiler.stop()
            watch.ends.append(time.perf_counter())
            if profiler is not None and state.global_step == 1:
                profiler.start()
                watch.ends[-1] = time.perf_counter()

    class Watched(PalateTrainer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.split = _named("data", self.split)
            self.add_callback(Clock())

        def training_step(self, model: Any, inputs: list[EncodedGroup], *rest: Any) -> torch.Tensor:
            watch.groups.append(inputs)
            return super().training_step(model, inputs, *rest)

        def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
            with record_function("part:optimiser"):
                return super()._get_grad_norm(*args, **kwargs)

    return Watched


def _named(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run_named(*args: Any, **kwargs: Any) -> Any:
        with record_function(f"part:{part}"):
            return function(*args, **kwargs)

    return run_named


@contextlib.contextmanager
def _named_parts() -> Iterator[None]:
    """Inside, attention and head show up under their names in a profile."""
    places = (
        (sublayers, "tree_forward", "attention"),
        (sublayers, "tree_backward", "attention"),
        (forward, "head_logps", "head"),
    )
    with contextlib.ExitStack() as stack:
        for module, name, part in places:
            stack.enter_context(patch.object(module, name, _named(part, getattr(module, name))))
        yield


def _seconds_by_part(events: Sequence[Any]) -> dict[str, float]:
    """Seconds of each part: those within its ranges, and matrix products outside of all of them as the trunk's."""
    parts = dict.fromkeys(("trunk", *PARTS), 0.0)
    for event in events:
        part = next((found for found in map(_part_of, _and_parents(event)) if found), "")
        if not part and event.name in _PRODUCTS:
            part = "trunk"
        if part:
            parts[part] += event.self_cpu_time_total / 1e6
    missing = [name for name, seconds in parts.items() if not seconds]
    if missing:
        raise SystemExit(
            f"the profile has nothing of {', '.join(missing)}: roofline.py no longer fits the engine's names"
        )
    return parts


def _and_parents(event: Any) -> Iterator[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent


def _part_of(event: Any) -> str:
    if event.name.startswith("part:"):
        return str(event.name.removeprefix("part:"))
    return next((part for name, part in _KNOWN_RANGES.items() if name in event.name), "")


# ---- the result


def summary(
    options: argparse.Namespace, shape: Shape, rates: dict[str, float], quiet: Watch, profiled: Watch
) -> Report:
    """Rates of the step, of the reference's pass and of both; and of the step's parts."""
    best = rates[options.precision]
    steps = training_flops(shape, quiet.measured_groups)
    every = training_flops(shape, [group for groups in quiet.groups for group in groups])
    epoch = forward_flops(
        shape, [group for groups in quiet.groups[: len(quiet.groups) // options.epochs] for group in groups]
    )
    passes = quiet.seconds["reference"], quiet.seconds["train"]
    return {
        "benchmark": "roofline",
        "precision": options.precision,
        "settings": {name: getattr(options, name) for name in ("pairs", "batch", "epochs", "cutoff_len")},
        "threads": torch.get_num_threads(),
        "peak": rates,
        "step": _achieved(f"training, steps 2 to {len(quiet.ends)}", steps.total, quiet.step_seconds, best),
        "reference": _achieved("the reference's pass", epoch.total, passes[0], best),
        "whole": _achieved("the whole run", every.total + epoch.total, sum(passes), best),
        "parts": _parts(steps, quiet, profiled, best),
        "profiler_slowdown": profiled.step_seconds / quiet.step_seconds,
    }


def _achieved(name: str, flops: int, seconds: float, best: float) -> Report:
    rate = flops / seconds
    return {"name": name, "flops": flops, "seconds": seconds, "flops_per_second": rate, "of_peak": rate / best}


def _parts(steps: Flops, quiet: Watch, profiled: Watch, best: float) -> list[Report]:
    """Shares under the profiler, rates as if the time without it were shared in the same way."""
    names = {
        "trunk": "matrix products of the layers",
        "attention": "attention",
        "head": "head",
        "optimiser": "optimiser and clipping",
        "data": "data",
    }
    needed = {"trunk": steps.trunk, "attention": steps.attention, "head": steps.head}
    rows = []
    for part, name in names.items():
        share = profiled.parts[part] / profiled.step_seconds
        row = _achieved(name, needed.get(part, 0), share * quiet.step_seconds, best)
        rows.append({**row, "share": share})
    rest = 1 - sum(row["share"] for row in rows)
    rows.append({**_achieved("everything else", 0, rest * quiet.step_seconds, best), "share": rest})
    return rows


if __name__ == "__main__":
    sys.exit(main())
