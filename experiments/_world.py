"""The small world of the review experiments: a language model that writes reviews, prompts, and who may judge them.

The model is a small Llama over a vocabulary of its own, taught by `stage: sft` on reviews of both domains; it is the
reference of every later run. `model_name_or_path` puts a real model in its place, taught on the same reviews.
A world is the same for every experiment of one config, so it lies beside them, under a hash of its settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _cells import Cell, Record, held
from _config import ExperimentConfig
from _reviews import Review, reviews
from _reward import sentiment
from _trained import train_run
from pydantic import Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from palate.artifacts import read_json, read_jsonl, remove_folder, write_json
from palate.evaluation.subject import Subject, model_spec
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.precision import default_device, resolve
from palate.records import Message, Messages
from palate.stats import mean_interval
from palate.text.named import TEMPLATES

TEMPLATE = "plain"
PRECISION = "fp32"
TRUE_REWARD = f"{Path(__file__).resolve().parent / '_reward.py'}:sentiment"
_SAMPLES = 8


class WorldConfig(ExperimentConfig):
    """The world that an experiment plays in.

    Attributes:
        model_name_or_path: a model in place of the small one; empty for the small one.
        layers: of the small one.
        width: of its hidden states.
        vocabulary: of its tokens.
        films: reviews of films that it is taught.
        meals: reviews of meals.
        sft_epochs: passes over them.
        sft_learning_rate: of that.
        sft_batch: reviews to one step of it.
        train_prompts: beginnings of further film reviews; pairs and rollouts come from these.
        held_out_prompts: and of others, of each domain, to measure on.
        max_new_tokens: longest completion.
    """

    model_name_or_path: str = ""
    layers: int = Field(4, ge=1)
    width: int = Field(128, ge=16)
    vocabulary: int = Field(1000, ge=300)
    films: int = Field(6000, ge=1)
    meals: int = Field(3000, ge=1)
    sft_epochs: float = Field(2.0, gt=0)
    sft_learning_rate: float = Field(3e-3, gt=0)
    sft_batch: int = Field(32, ge=1)
    train_prompts: int = Field(2048, ge=8)
    held_out_prompts: int = Field(200, ge=4)
    max_new_tokens: int = Field(48, ge=4)

    @property
    def world(self) -> dict[str, Any]:
        """All that the world depends on."""
        own = [key for key in WorldConfig.model_fields if key not in ExperimentConfig.model_fields]
        return {key: getattr(self, key) for key in ("seed", "max_steps", *own)}


def world_cell(config: WorldConfig, folder: Path) -> Cell:
    """The cell that makes the world, or finds that another experiment has made it."""

    def make(_: Path) -> Record:
        place = world_place(config, folder)
        with held(place.parent):  # of two experiments that begin together the second waits for the world of the first
            if not (place / "world.json").exists():
                if place.exists():
                    remove_folder(place)
                place.mkdir(parents=True)
                _write_reviews(config, place)
                trained = train_run(sft_values(config, place), place / "sft")
                write_json(place / "world.json", {**trained, **_described(config, place)})
        return dict(read_json(place / "world.json"))

    return Cell("world", make, config.world)


def world_place(config: WorldConfig, folder: Path) -> Path:
    """Where the world of a config lies: prompts, held-out reviews and the SFT model `sft`."""
    key = hashlib.sha256(json.dumps(config.world, sort_keys=True).encode()).hexdigest()[:12]
    return (folder.parent / f"world-{key}").resolve()


def sft_values(config: WorldConfig, place: Path) -> dict[str, Any]:
    """The config of the run that teaches the model to write reviews."""
    return {
        "stage": "sft",
        "model_name_or_path": config.model_name_or_path or str(_small_model(config, place)),
        "dataset": str(place / "sft.jsonl"),
        "template": TEMPLATE,
        "precision": PRECISION,
        "num_train_epochs": config.sft_epochs,
        "learning_rate": config.sft_learning_rate,
        "per_device_train_batch_size": config.sft_batch,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 20,
        "cutoff_len": 128,
        "seed": config.seed,
        **config.cut,
    }


# ---- reviews


def _write_reviews(config: WorldConfig, place: Path) -> None:
    """Reviews to learn from, and further ones with other prompts.

    A short prompt of these may still begin a review that is learnt with a longer prompt; no text stands in both.
    """
    films = reviews("films", config.films + config.train_prompts + config.held_out_prompts, config.seed)
    meals = reviews("meals", config.meals + config.held_out_prompts, config.seed)
    learnt = [*films[: config.films], *meals[: config.meals]]
    rest = films[config.films :]
    _write(place / "sft.jsonl", learnt)
    _write(place / "prompts.jsonl", rest[: config.train_prompts])
    _write(place / "films.jsonl", rest[config.train_prompts :])
    _write(place / "meals.jsonl", meals[config.meals :])


def _write(path: Path, rows: Iterable[Review]) -> None:
    lines = [json.dumps({"prompt": row.prompt, "completion": row.completion}) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_reviews(path: Path) -> tuple[list[Messages], list[str]]:
    """Prompts as conversations, and how the reviews that they begin went on."""
    rows = read_jsonl(path)
    return [(Message("user", row["prompt"]),) for row in rows], [row["completion"] for row in rows]


# ---- the model


def _small_model(config: WorldConfig, place: Path) -> Path:
    """A Llama with random weights and a vocabulary learnt from the reviews."""
    texts = [row["prompt"] + row["completion"] for row in read_jsonl(place / "sft.jsonl")]
    tokenizer = _tokenizer(texts, config.vocabulary)
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.width,
        "intermediate_size": 8 * config.width // 3 // 16 * 16,
        "num_hidden_layers": config.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(config.seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **values))
    model.save_pretrained(place / "start")
    tokenizer.save_pretrained(place / "start")
    return place / "start"


def _tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose own template is `plain`: a prompt is the beginning of a text, not a question."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")  # noqa: S106
    fast.chat_template = TEMPLATES[TEMPLATE].jinja
    return fast


def subject(model: str | Path) -> Subject:
    """A loaded model of this world."""
    device = default_device()
    return Subject(model_spec(str(model), template=TEMPLATE), resolve(PRECISION, device), device)


def sampled(
    model: Subject, prompts: Sequence[Messages], *, seed: int, name: str, temperature: float, tokens: int
) -> list[str]:
    """One completion of each prompt; those of the same `seed` and `name` share their random numbers."""
    seeds = [sampling_seed(seed, name, place) for place in range(len(prompts))]
    answers = model.answers(prompts, Decoding(tokens, temperature), seeds)
    return [answer.text for answer in answers]


def _described(config: WorldConfig, place: Path) -> Mapping[str, Any]:
    """What the SFT model writes, and how kind that is, beside the reviews that it learnt from."""
    model = subject(place / "sft")
    found: dict[str, Any] = {"parameters": sum(weights.numel() for weights in model.model.parameters())}
    for domain in ("films", "meals"):
        prompts, written = read_reviews(place / f"{domain}.jsonl")
        answers = sampled(model, prompts, seed=config.seed, name="world", temperature=1.0, tokens=config.max_new_tokens)
        scores = sentiment(prompts, answers)
        found[domain] = {
            "reward": _interval(scores),
            "spread": float(torch.tensor(scores).std()),
            "reward_of_reviews": _interval(sentiment(prompts, written)),
            "samples": [f"{prompt[0].content} |{answer}" for prompt, answer in zip(prompts, answers)][:_SAMPLES],
        }
    return found


def _interval(values: Sequence[float]) -> dict[str, float]:
    found = mean_interval(values)
    return {"estimate": found.estimate, "low": found.low, "high": found.high}
