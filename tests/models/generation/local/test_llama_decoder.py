"""The decoder of Llama-like models beside the models' own forward: logits, samples, leaving rows, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from palate.models.attention.tree import TREE
from palate.models.cpu import prepacked
from palate.models.cpu.layers import apply_fused
from palate.models.cpu.llama_like import base_of, recognised
from palate.models.frozen import store_frozen_in
from palate.models.generation.decoding import Decoding
from palate.models.generation.local import llama_decoder
from palate.models.generation.local.generate import generate, stock_attention
from palate.models.generation.local.llama_decoder import StepDecoder, step_decoder
from palate.models.precision import BF16, FP32
from palate.models.probe.probe import probe
from palate.models.scoring.forward import install
from palate.models.scoring.head import Head
from tiny import tiny_model

PROMPTS = [[5, 9, 12], [7, 3, 30, 31, 8, 90, 14], [11]]
GREEDY = Decoding(max_new_tokens=20)


def stock_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """Of the token after these, by the model's own forward."""
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0, -1]
    return logits


def lora(kind: str = "llama") -> Any:
    """A model with adapters that change its answers, one of them on the head's neighbours only."""
    torch.manual_seed(1)
    model = get_peft_model(tiny_model(kind), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.2)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("copy", [True, False])
def test_logits_are_the_models_own_while_rows_leave(kind: str, copy: bool) -> None:
    model = tiny_model(kind)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_()
    decoder = StepDecoder(model, torch.float32, copy=copy, rows=6)
    random = torch.Generator().manual_seed(0)
    texts = [list(prompt) for prompt in PROMPTS for _ in range(2)]
    got = decoder.first(PROMPTS, 2)
    # Prompt 0 loses a sample, then prompt 1 both, then one row is left; the answers outgrow a buffer on the way.
    leaving = {3: [0, 2, 3, 4, 5], 6: [0, 3, 4], 9: [1]}
    for step in range(70):
        wanted = torch.stack([stock_logits(model, text) for text in texts])
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
        if step in leaving:
            decoder.keep(torch.tensor(leaving[step]))
            texts = [texts[i] for i in leaving[step]]
        tokens = torch.randint(199, (len(texts),), generator=random)
        for text, token in zip(texts, tokens.tolist(), strict=True):
            text.append(token)
        got = decoder.next(tokens)


@torch.no_grad()
def test_long_prompts_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    whole = StepDecoder(model, torch.float32, copy=True, rows=3).first(PROMPTS, 1)
    monkeypatch.setattr(llama_decoder, "_PREFILL_TOKENS", 5)
    parts = StepDecoder(model, torch.float32, copy=True, rows=3).first(PROMPTS, 1)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("make", [lora, lambda: tiny_model("qwen2"), tiny_model])
def test_answers_equal_those_of_the_models_forward(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    sampled = Decoding(max_new_tokens=20, temperature=1.0)
    fast = [generate(model, prompts, how, stop_ids=[5, 17], precision=FP32) for how in (GREEDY, sampled)]
    monkeypatch.setattr("palate.models.generation.local.generate.step_decoder", lambda *_: None)
    slow = [generate(model, prompts, how, stop_ids=[5, 17], precision=FP32) for how in (GREEDY, sampled)]
    assert fast == slow
    assert fast[0] != fast[1]


@torch.no_grad()
def test_what_training_makes_of_a_model_is_recognised() -> None:
    model = tiny_model("qwen2")
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())
    apply_fused(model)
    install(model, Head())
    model.value_head = nn.Linear(32, 1)
    with stock_attention(model):
        assert step_decoder(model, None, 4) is not None
    with stock_attention(model):
        store_frozen_in(model.requires_grad_(False), BF16)
        assert step_decoder(model, BF16.autocast, 4) is not None
    assert step_decoder(lora(), None, 4) is not None


@torch.no_grad()
@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("make", [tiny_model, lora])
def test_a_model_that_accelerate_has_wrapped_in_autocast_is_recognised(
    make: Any, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What earlier trainings of this process left there would refuse another precision.
    for state in (AcceleratorState, PartialState):
        monkeypatch.setattr(state, "_shared_state", {})
    model = make()
    if installed:
        install(base_of(model), Head())
    wanted = [stock_logits(model, prompt) for prompt in PROMPTS]
    model = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(model)
    assert not torch.equal(stock_logits(model, PROMPTS[0]), wanted[0]), "autocast is on"
    assert step_decoder(model, BF16.autocast, 4) is not None
    decoder = step_decoder(model, None, 4)
    assert decoder is not None
    torch.testing.assert_close(decoder.first(PROMPTS, 1), torch.stack(wanted), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gpt2", "phi", "bloom"])
def test_other_architectures_keep_their_forward(kind: str) -> None:
    assert not recognised(tiny_model(kind))


@torch.no_grad()
def test_whatever_a_caller_hung_into_the_model_is_not_walked_past() -> None:
    for place in ("", "model.layers.1", "model.layers.0.mlp.up_proj", "model.norm"):
        model = tiny_model()
        model.get_submodule(place).register_forward_hook(lambda *_: None)
        assert not recognised(model)
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj"], use_dora=True)).eval()
    assert not recognised(model)


@torch.no_grad()
def test_a_twist_that_only_the_trial_sees() -> None:
    model = tiny_model()
    plain = model.forward

    def scaled(**inputs: Any) -> Any:
        output = plain(**inputs)
        output.logits = output.logits * 0.9
        return output

    model.forward = scaled
    assert recognised(model)
    assert step_decoder(model, None, 4) is None


def test_the_model_is_left_as_it_was_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    before = {name: (p, p.clone()) for name, p in model.named_parameters()}
    modules = dict(model.named_modules())
    model.train()
    with monkeypatch.context() as patched:
        patched.setattr(
            "palate.models.generation.local.generate.check_sequences", lambda *_, **__: None
        )  # refuses such a prompt
        with pytest.raises(IndexError):
            generate(model, [[5, 6], [4000]], GREEDY, stop_ids=[], precision=FP32)
    assert model.training
    assert dict(model.named_modules()) == modules
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])


@pytest.mark.parametrize("method", ["eval", "set_attn_implementation"])
def test_the_model_is_left_as_it_was_after_ctrl_c_on_the_way_in(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().train()
    probe(model)
    changed = getattr(model, method)

    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        changed(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(model, method, interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        generate(model, PROMPTS, GREEDY, stop_ids=[], precision=FP32)
    assert all(module.training for module in model.modules())
    assert model.config._attn_implementation == TREE


def test_weights_that_change_between_calls_are_read_anew() -> None:
    model = tiny_model()
    first = generate(model, PROMPTS, GREEDY, stop_ids=[], precision=FP32)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(-3.0)
    second = generate(model, PROMPTS, GREEDY, stop_ids=[], precision=FP32)
    assert first != second
    for prompt, answer in zip(PROMPTS, second, strict=True):
        assert answer[0] == int(stock_logits(model, prompt).argmax())


@torch.no_grad()
@pytest.mark.parametrize("make", [tiny_model, lora])
def test_bf16_stays_near_float32(make: Any) -> None:
    model = make()
    exact = StepDecoder(model, torch.float32, copy=True, rows=4)
    low = StepDecoder(model, torch.bfloat16, copy=True, rows=4)
    tokens = torch.tensor([3, 4, 5])
    for wanted, got in (
        (exact.first(PROMPTS, 1), low.first(PROMPTS, 1)),
        (exact.next(tokens), low.next(tokens)),
    ):
        assert got.dtype == torch.float32
        assert 0 < float((got - wanted).abs().max()) < 0.05 * float(wanted.abs().max())


def test_bf16_is_used_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(prepacked, "native_bf16", lambda native=native: native)
        assert prepacked.step_dtype(BF16.autocast, torch.float32) == dtype
        assert prepacked.step_dtype(None, torch.bfloat16) == dtype
        assert prepacked.step_dtype(None, torch.float32) == torch.float32


def twisted(kind: str, **changes: Any) -> Any:
    """A tiny model of an architecture that differs from Llama's where eight tokens do not show it."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(kind, vocab_size=199, num_key_value_heads=2, pad_token_id=2, **size, **changes)
    return AutoModelForCausalLM.from_config(config).eval()


@torch.no_grad()
def test_queries_that_grow_beyond_a_length_keep_their_forward() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "llama_4_scaling_beta": 0.5}
    model = twisted(
        "ministral3",
        head_dim=8,
        sliding_window=None,
        rope_parameters={**rope, "original_max_position_embeddings": 16},
    )
    assert step_decoder(model, None, 2) is None
    prompt = list(range(3, 40))
    answer = generate(model, [prompt], Decoding(max_new_tokens=1), stop_ids=[], precision=FP32)[0]
    assert answer == [int(stock_logits(model, prompt).argmax())]


@torch.no_grad()
def test_layers_without_positions_keep_their_forward() -> None:
    assert not recognised(twisted("smollm3", no_rope_layers=[1, 0], use_sliding_window=False))


@torch.no_grad()
@pytest.mark.parametrize("rope_type", ["dynamic", "longrope", {"full_attention": "default"}])
def test_rotations_that_depend_on_the_length_keep_their_forward(rope_type: Any) -> None:
    model = tiny_model()
    model.model.rotary_emb.rope_type = rope_type
    assert not recognised(model)


@torch.no_grad()
def test_ceilings_other_gates_and_foreign_tensors_keep_their_forward() -> None:
    def ceiling(model: Any) -> None:
        model.config.final_logit_softcapping = 30.0

    def gate(model: Any) -> None:
        model.model.layers[1].mlp.act_fn = nn.GELU()

    def foreign(model: Any) -> None:
        class Quantised(nn.Parameter):
            pass

        model.model.layers[1].mlp.up_proj.weight = Quantised(model.model.layers[1].mlp.up_proj.weight.data)

    for change in (ceiling, gate, foreign):
        model = tiny_model()
        assert recognised(model)
        change(model)
        assert not recognised(model)


@torch.no_grad()
def test_no_second_copy_of_weights_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    half = tiny_model("qwen2").bfloat16()
    models = [half, lora()]
    assert all(step_decoder(model, None, 4) is not None for model in models)
    monkeypatch.setattr(llama_decoder, "COPIED_BYTES", 1000)
    assert all(step_decoder(model, None, 4) is None for model in models)
    monkeypatch.setattr(llama_decoder, "step_dtype", lambda *_: torch.bfloat16)
    assert step_decoder(tiny_model(), BF16.autocast, 4) is None
    monkeypatch.setattr(llama_decoder, "step_dtype", lambda *_: torch.float32)
    model = tiny_model()
    decoder = step_decoder(model, None, 4)
    assert decoder is not None
    assert decoder.layers[0].down._weights[0].data_ptr() == model.model.layers[0].mlp.down_proj.weight.data_ptr()
