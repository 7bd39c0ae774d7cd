"""Bytes by part against figures computed by hand for a small model; what sharding, lengths and switches change."""

from __future__ import annotations

from typing import Any

import pytest

from palate.capacity import memory
from palate.capacity.hardware import Hardware
from palate.capacity.job import Job, RowTokens, Workload
from palate.capacity.memory import activation_bytes, memory_of, state_bytes
from palate.capacity.shapes import Counts, ModelShape
from palate.config.load import config_from_values
from palate.models.attention import cpu
from palate.models.cpu import head
from palate.models.generation.local import generate, llama_decoder
from palate.models.scoring import head as scoring_head

# 2 layers of 8 → 16 → 8 with 2 heads of 4 and 1 key head; 100 words. Per layer: q and o 64 each, k and v 32 each, the
# MLP 3 · 128; norms 5 · 8.
SHAPE = ModelShape("small", "llama", 2, 8, 16, 2, 1, 4, 100)
LINEAR, WORDS, NORMS = 2 * (64 + 64 + 32 + 32 + 384), 800, 40
TOTAL = LINEAR + 2 * WORDS + NORMS
ADAPTER = 2 * 4 * ((8 + 8) + 2 * (8 + 4) + (8 + 8) + 2 * (8 + 16) + (16 + 8))  # rank 4
GPU = Hardware("gpu", 80, 100, 1000)
CPU = Hardware("cpu", 80, 1, 10, gpu=False)
ROW = RowTokens(6, (4, 4))


def job(
    hardware: Hardware = GPU, devices: int = 1, shape: ModelShape = SHAPE, row: RowTokens = ROW, **values: Any
) -> Job:
    given = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o", **values}
    samples = {} if given["stage"] in ("sft", "rm") else {"sample_prompts": 0}
    config = config_from_values({**given, **samples}).config
    return Job(config, shape, Workload(10, [row], "by hand"), hardware, devices)


def online(stage: str, **values: Any) -> Job:
    row = RowTokens(6, (20,) * 2)
    return job(stage=stage, rewards="length:shorter", num_generations=2, max_new_tokens=20, row=row, **values)


LORA = {"finetuning_type": "lora", "lora_rank": 4}


def test_full_training() -> None:
    parts = memory_of(job()).parts
    assert parts["weights"] == parts["gradients"] == 4 * TOTAL
    assert parts["optimiser"] == 8 * TOTAL
    assert parts["weights as multiplied"] == 2 * LINEAR
    assert "reference" not in parts, "its values are stored before training"
    assert "adapter" not in parts


def test_lora_keeps_frozen_linear_maps_in_bf16() -> None:
    parts = memory_of(job(**LORA)).parts
    assert parts["weights"] == 2 * (LINEAR + WORDS) + 4 * (WORDS + NORMS)
    assert parts["adapter"] == parts["gradients"] == 4 * ADAPTER
    assert parts["optimiser"] == 8 * ADAPTER
    assert "weights as multiplied" not in parts
    magnitudes = 2 * (8 + 4 + 4 + 8 + 16 + 16 + 8)
    assert memory_of(job(**LORA, use_dora=True)).parts["adapter"] == 4 * (ADAPTER + magnitudes)
    only_queries = memory_of(job(**LORA, lora_target=["q_proj", "v_proj"])).parts["adapter"]
    assert only_queries == 4 * 2 * 4 * ((8 + 8) + (8 + 4))


def test_quantised_weights() -> None:
    rest = 2 * WORDS + 4 * (WORDS + NORMS)
    four, once, eight = (
        memory_of(job(**LORA, quantization_bit=bits, double_quantization=twice)).parts["weights"]
        for bits, twice in ((4, True), (4, False), (8, True))
    )
    assert four == pytest.approx(0.516 * LINEAR + rest, abs=2)
    assert once == pytest.approx(0.5625 * LINEAR + rest, abs=2)
    assert eight == LINEAR + rest


def test_last_layers() -> None:
    found = memory_of(job(finetuning_type="freeze", freeze_trainable_layers=1, freeze_extra_modules=["lm_head"])).parts
    trained = LINEAR // 2 + WORDS + NORMS // 2
    assert found["gradients"] == 4 * trained
    assert found["weights"] == 4 * trained + 2 * LINEAR // 2 + 4 * (WORDS + NORMS // 2)


@pytest.mark.parametrize(
    ("optimiser", "bytes_each", "of_embeddings"),
    [
        ("adamw_torch_fused", 8, 8),
        ("adamw_8bit", 2, 8),
        ("adamw_bnb_8bit", 2, 8),
        ("paged_adamw_32bit", 8, 8),
        ("lion_32bit", 4, 4),
        ("paged_lion_8bit", 1, 4),
        ("sgd", 0, 0),
    ],
)
def test_optimiser_states(optimiser: str, bytes_each: int, of_embeddings: int) -> None:
    assert state_bytes(optimiser, Counts(linear=100, embedding=10)) == 100 * bytes_each + 10 * of_embeddings


def test_paged_states_lie_in_main_memory() -> None:
    found = memory_of(job(optim="paged_adamw_8bit"))
    assert "optimiser" not in found.parts
    assert found.host == 2 * TOTAL + 6 * WORDS


def test_references() -> None:
    assert "reference" not in memory_of(job(stage="sft")).parts
    copied = memory_of(job(reference_cache="off")).parts["reference"]
    assert copied == 2 * (LINEAR + WORDS) + 4 * (WORDS + NORMS)
    assert "reference" not in memory_of(job(reference_cache="off", **LORA)).parts, "the disabled adapter is it"
    assert "reference" not in memory_of(job(pref_loss="orpo")).parts
    other = Job(**{**vars(job(reference_cache="off", **LORA)), "reference": SHAPE})
    assert memory_of(other).parts["reference"] == copied
    stored = Job(**{**vars(job(**LORA)), "reference": SHAPE})
    assert "reference" not in memory_of(stored).parts
    assert "reference pass" in memory_of(stored).moments


def test_activations_of_a_token() -> None:
    # On a GPU, in bf16: a layer saves two float32 inputs and two normed rows of 8, five casts of 8, q and o of 8, k and
    # v of 4, and four rows of 16.
    saved, working = activation_bytes(job())
    layer = 4 * (4 * 8) + 2 * (5 * 8 + 8 + 8 + 4 + 4 + 4 * 16)
    assert (saved, working) == (2 * layer, 12 * 8 + 2 * 3 * (16 + 8))
    checkpointed = activation_bytes(job(gradient_checkpointing=True))
    assert checkpointed == (2 * 4 * 8, layer + working)
    # In float32 casts are views, and everything else is twice as large.
    assert activation_bytes(job(precision="fp32"))[0] == 2 * (4 * (4 * 8) + 4 * (8 + 8 + 4 + 4 + 4 * 16))
    # On a CPU: the residual stream twice, q, k, v and o, gate and up, and 64 + the mean number of keys probabilities.
    pairs = 21 + 2 * (7 + 8 + 9 + 10)
    assert activation_bytes(job(CPU))[0] == 2 * (8 * 8 + 2 * 24 + 4 * 16 + 2 * 2 * (64 + pairs / 14))
    last = job(finetuning_type="freeze", freeze_trainable_layers=1)
    assert activation_bytes(last)[0] == layer


def test_the_head_of_a_reward_model_has_no_logits() -> None:
    found = memory_of(job(stage="rm")).parts
    assert "logits" not in found
    assert found["gradients"] == 4 * (TOTAL - WORDS + 8), "no LM head, and a score for each of 8 states"


def test_logits_on_a_cpu() -> None:
    """bf16 weight and its two gradients, hidden states (2 · 2 + 8 bytes), and the kept errors of all 8 rows."""
    found = memory_of(job(CPU)).parts
    assert found["logits"] == (2 + 2 + 4) * WORDS + 8 * 8 * 12 + 8 * 100 * 2 + 8 * 100 * 2
    assert found["gradient sums"] == 4 * WORDS


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_sampling(stage: str) -> None:
    found = memory_of(online(stage))
    values = 9 if stage == "ppo" else 0
    assert found.parts["gradients"] == 4 * (TOTAL + values)
    assert found.parts["reference"] == 2 * (LINEAR + WORDS) + 4 * (WORDS + NORMS + values)
    at_rest = sum(found.parts[name] for name in ("libraries", "weights", "reference", "optimiser"))
    # A copy of the linear maps and the head in bf16; of 32 answers keys and values (2 layers, 4 wide) and logits.
    answers = 2 * (LINEAR + WORDS) + 32 * (2 * 2 * 4 * 2 * 26 + 12 * 100)
    assert found.moments["sampling"] == pytest.approx(at_rest + answers + 0.06 * (at_rest + answers - 6e8), abs=2)
    elsewhere = online(stage, rollout_url="http://127.0.0.1:1/v1", rollout_model="p", rollout_sync="none")
    assert "sampling" not in memory_of(elsewhere).moments


@pytest.mark.parametrize(
    ("values", "divided"),
    [
        ({}, ()),
        ({"fsdp": "shard_grad_op"}, ("gradients", "optimiser")),
        ({"fsdp": "full_shard auto_wrap"}, ("weights", "gradients", "optimiser")),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, ("weights", "gradients", "optimiser")),
    ],
)
def test_sharding_divides_what_it_should(values: dict[str, Any], divided: tuple[str, ...]) -> None:
    one, four = memory_of(job()).parts, memory_of(job(devices=4, **values)).parts
    for name in ("weights", "gradients", "optimiser"):
        assert four[name] == pytest.approx(one[name] / (4 if name in divided else 1), abs=1), name
    assert ("gradient buckets" in four) is (not values), "DDP's buckets"
    assert ("gathered weights" in four) is ("weights" in divided)
    assert four["activations"] == one["activations"]


def test_a_device_of_a_sharded_model_gathers_two_layers_and_the_words() -> None:
    sharded = {"devices": 4, "fsdp": "full_shard auto_wrap"}
    # A layer is 576 linear weights; two of them in float32, and the gradient of one and of 2 · 800 words.
    assert memory_of(job(**sharded)).parts["gathered weights"] == 4 * (2 * 576 + 1600) + 4 * (576 + 1600)
    # Frozen ones are in bf16, but for the embedding.
    assert memory_of(job(**sharded, **LORA)).parts["gathered weights"] == 2 * (2 * 576 + 800) + 4 * 800
    assert memory_of(job(**sharded)).parts["weights as multiplied"] == 2 * LINEAR, "autocast keeps them all"


def test_loading() -> None:
    def loading(hardware: Hardware, **values: Any) -> float:
        """Without the libraries, the rows and the fragments."""
        found = memory_of(job(hardware, **values))
        libraries, share = (6e8, 1.06) if hardware.gpu else (6.5e8, 1.08)
        return (found.moments["loading"] - libraries) / share - (0 if hardware.gpu else 60_000)

    frozen = 2 * (LINEAR + WORDS) + 4 * (WORDS + NORMS)
    assert loading(GPU) == pytest.approx(4 * TOTAL, abs=2)
    four = {"devices": 4, "fsdp": "full_shard"}
    # A part, and what the check at load gathers: two layers with a gradient of one, the embedding and the head.
    gathered = 4 * (2 * 576 + 1600) + 4 * (576 + 1600)
    assert loading(GPU, **four) == pytest.approx(TOTAL + gathered, abs=2)
    assert loading(GPU, **four, fsdp_config={"version": 1}) == pytest.approx(4 * TOTAL, abs=2), "whole on each device"
    assert loading(GPU, **four, use_liger_kernel=True) == pytest.approx(4 * TOTAL, abs=2), "whole on each device"
    assert loading(GPU, devices=4, deepspeed={}) == pytest.approx(4 * TOTAL, abs=2), "whole on each device"
    assert loading(GPU, **LORA) == pytest.approx(frozen, abs=2)
    assert loading(GPU, **LORA, use_dora=True) == pytest.approx(4 * TOTAL, abs=2)
    # A CPU maps the file of bf16 weights, and copies it to cast it.
    assert loading(CPU) == pytest.approx(4 * TOTAL + 2 * 2 * TOTAL, abs=2)
    assert loading(CPU, **LORA) == pytest.approx(frozen + 2 * TOTAL, abs=2)


def test_offloaded_parts_lie_in_main_memory() -> None:
    found = memory_of(job(devices=2, fsdp="full_shard offload auto_wrap"))
    assert not {"weights", "gradients", "optimiser"} & found.parts.keys()
    assert found.host == 16 * TOTAL / 2


def test_sharding_has_no_effect_on_a_cpu() -> None:
    assert memory_of(job(CPU, 2, fsdp="full_shard")).parts["weights"] == 4 * TOTAL


def test_more_of_anything_needs_no_less_memory() -> None:
    wide = ModelShape("wide", "llama", 4, 64, 128, 4, 2, 16, 1000)

    def peak(**changes: Any) -> int:
        given = {"shape": wide, "row": RowTokens(300, (200, 200)), "max_tokens_per_batch": 8192}
        return memory_of(job(**{**given, **changes})).peak

    base = peak()
    assert peak(row=RowTokens(600, (200, 200))) > base
    assert peak(row=RowTokens(300, (200, 400))) > base
    assert peak(per_device_train_batch_size=4) > base
    assert peak(shape=ModelShape("deep", "llama", 8, 64, 128, 4, 2, 16, 1000)) > base
    assert peak(precision="fp32") > base
    assert peak(attention="padded") > base
    assert peak(gradient_checkpointing=True) < base
    assert peak(optim="adamw_8bit") < base
    assert peak(**LORA) < base


def test_the_tokens_of_a_pass_are_those_of_the_run() -> None:
    many = {"per_device_train_batch_size": 100_000}
    assert memory_of(job(**many)).tokens == 16_384
    assert memory_of(job(CPU, **many)).tokens == 4_096
    assert memory_of(job(per_device_train_batch_size=3)).tokens == 3 * 14
    assert memory_of(job(max_tokens_per_batch=5)).tokens == 14, "a longer row gets a pass of its own"
    assert memory_of(job(attention="padded")).tokens == 2 * (6 + 4)


def test_gradients_of_earlier_passes_are_there_in_the_next_forward_pass() -> None:
    row = RowTokens(300, (200, 200))
    one = memory_of(job(row=row, per_device_train_batch_size=2, max_tokens_per_batch=1400))
    two = memory_of(job(row=row, per_device_train_batch_size=2, max_tokens_per_batch=700))
    assert one.tokens == 2 * two.tokens == 1400
    fewer = one.parts["activations"] + one.parts["buffers of one layer"] + one.parts["logits"]
    fewer -= two.parts["activations"] + two.parts["buffers of one layer"] + two.parts["logits"]
    found = one.moments["forward pass"] - two.moments["forward pass"]
    assert found == pytest.approx(1.06 * (fewer - 4 * TOTAL), abs=3)


def test_the_sizes_are_those_of_the_code_that_runs() -> None:
    assert memory.ANSWERS_AT_A_TIME == generate.BATCH_SIZE
    assert memory._CHUNK == scoring_head.CHUNK_ELEMENTS
    assert (memory._KEPT_LOGITS, memory._LOGIT_ROWS) == (head.KEPT_BYTES, head._ROWS)
    assert (memory._KEPT_KEYS, memory._QUERY_BLOCK) == (cpu.KEPT_KEYS, cpu.QUERY_BLOCK)
    assert memory._COPIED_BYTES == llama_decoder.COPIED_BYTES
