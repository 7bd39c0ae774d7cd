"""Operations and seconds against figures computed by hand, and how they grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from palate.capacity.duration import Duration, duration_of, forward, training
from palate.capacity.hardware import Hardware
from palate.capacity.job import Job, RowTokens, Workload
from palate.capacity.memory import memory_of
from palate.capacity.shapes import ModelShape
from palate.config.load import config_from_values

SHAPE = ModelShape("small", "llama", 2, 8, 16, 2, 1, 4, 100)
LINEAR, WORDS = 2 * 576, 800
GPU = Hardware("gpu", 80, 100, 1000, link=100, efficiency=0.5, attention=0.5, traffic=1.0)
ROW = RowTokens(6, (4, 4))
PAIRS = 21 + 2 * (7 + 8 + 9 + 10)


def job(hardware: Hardware = GPU, devices: int = 1, row: RowTokens = ROW, rows: int = 10, **values: Any) -> Job:
    given = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o", **values}
    return Job(config_from_values(given).config, SHAPE, Workload(rows, [row], "by hand"), hardware, devices)


def duration(job: Job) -> Duration:
    return duration_of(job, memory_of(job).tokens)


def test_a_forward_pass_reads_the_prompt_once() -> None:
    found = forward(job(), SHAPE)
    assert found == (2 * LINEAR * 14, 4 * 4 * 2 * 2 * PAIRS, 2 * WORDS * 8)
    padded = forward(job(attention="padded"), SHAPE)
    assert padded == (2 * LINEAR * 20, 4 * 4 * 2 * 2 * 2 * 55, 2 * WORDS * 8)
    assert forward(job(stage="rm"), SHAPE).head == 0


@pytest.mark.parametrize(
    ("values", "linear", "attention", "head"),
    [
        ({}, 3, 3, 3),
        ({"gradient_checkpointing": True}, 4, 4, 3),
        ({"finetuning_type": "lora", "lora_rank": 1}, 2, 3, 2),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": 1}, 1.5, 1.5, 2),  # the lower layer is stored
        ({"finetuning_type": "freeze", "freeze_trainable_layers": 1, "trunk_cache": "off"}, 2, 2, 2),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": -1}, 2.5, 3, 2),
    ],
)
def test_what_gradients_cost(values: dict[str, Any], linear: float, attention: float, head: float) -> None:
    once, found = forward(job(), SHAPE), training(job(**values))
    adapter = 6 * job(**values).adapter * 14
    assert found == pytest.approx((linear * once.linear + adapter, attention * once.attention, head * once.head))


def test_seconds_of_a_step() -> None:
    found = duration(job(per_device_train_batch_size=2, gradient_accumulation_steps=3))
    rate = 0.5 * 100e12
    assert found.step["products of the layers"] == pytest.approx(6 * 3 * 2 * LINEAR * 14 / rate)
    assert found.step["attention"] == pytest.approx(6 * 3 * 64 * PAIRS / (rate / 2))
    assert found.step["head"] == pytest.approx(6 * 3 * 2 * WORDS * 8 / rate)
    total = LINEAR + 2 * WORDS + 40
    assert found.step["optimiser"] == pytest.approx((20 + 16) * total / 1e12)
    assert found.steps == 2
    # Ten rows are scored once by the reference; the last step has fewer than six.
    once = 2 * LINEAR * 14 / rate + 64 * PAIRS / (rate / 2) + 2 * WORDS * 8 / rate
    assert found.before == pytest.approx(10 * once)
    assert found.of_run == pytest.approx(found.before + 2 * sum(found.step.values()))


def test_a_live_reference_costs_a_forward_pass_in_each_step() -> None:
    stored, live = duration(job()), duration(job(reference_cache="off"))
    assert live.before == 0
    assert live.step["head"] == pytest.approx(stored.step["head"] * 4 / 3)


def test_devices_share_the_rows_and_exchange_gradients() -> None:
    one, four = duration(job(rows=1000)), duration(job(rows=1000, devices=4))
    assert (one.steps, four.steps) == (1000, 250)
    assert four.of_run < one.of_run
    slow = replace(GPU, link=1e-3)
    bytes_moved = 2 * 0.75 * 4 * (LINEAR + 2 * WORDS + 40)
    computing = sum(value for name, value in one.step.items() if name != "optimiser")
    found = duration(job(slow, rows=1000, devices=4)).step["exchange not hidden"]
    assert found == pytest.approx(bytes_moved / 1e6 - computing)


def test_sampling_is_bound_by_memory_with_few_answers() -> None:
    values = {"stage": "grpo", "rewards": "length:shorter", "max_new_tokens": 50, "num_generations": 4}
    found = duration(job(row=RowTokens(6, (50,) * 4), num_iterations=2, **values))
    read = 2 * (LINEAR + WORDS) + 2 * 2 * 2 * 1 * 4 * (6 + 25) * 4
    prefill = 2 * LINEAR * 6 / (0.5 * 100e12)
    assert found.step["sampling answers"] == pytest.approx((50 * read / 1e12 + prefill) / 2)
    assert found.steps == 20, "two updates with the answers of each of ten steps"


def test_more_work_takes_longer() -> None:
    def seconds(**changes: Any) -> float:
        return duration(job(**{"row": RowTokens(100, (50, 50)), "per_device_train_batch_size": 4, **changes})).of_step

    base = seconds()
    assert seconds(row=RowTokens(100, (50, 90))) > base
    assert seconds(attention="padded") > base
    assert seconds(precision="fp32") > base
    assert seconds(gradient_checkpointing=True) > base
    assert seconds(hardware=replace(GPU, tflops=50)) > base
    assert seconds(finetuning_type="lora", lora_rank=1) < base
