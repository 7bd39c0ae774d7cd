"""Everything that a run is made of, built in the order in which a user's mistakes are cheapest to find."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from palate.config.run import RunConfig
from palate.config.stages.rollout import RolloutFields
from palate.models.cpu.allocator import keep_freed_memory
from palate.models.load import check_quantisation, load_tokenizer, resolve_name
from palate.models.precision import Precision, default_device
from palate.models.precision import resolve as resolve_precision
from palate.models.reference.kinds import Reference
from palate.models.reward.head import give_pad_token
from palate.models.tuning.vocabulary import add_tokens, add_tokens_of
from palate.models.value_head import add_value_head
from palate.progress import console
from palate.text.template import Template, load_template, thinking
from palate.training.methods import Method, build_method
from palate.training.online.rewards import JudgeRewards, WeightedRewards, build_rewards
from palate.training.setup.arguments import check_installed
from palate.training.setup.build import Policy, build_policy, noise_alpha
from palate.training.setup.dataset import RunData, build_data
from palate.training.setup.environment import is_main_process, reset_peak_memory, seed_everything
from palate.training.setup.limits import check_limits, longest_scored
from palate.training.setup.references import build_reference


@dataclass
class Voice:
    """Lines for the person at the terminal, on stderr and from the main process only; kept for `run.json`.

    Attributes:
        lines: what was said, and before that the notices that the config's reader had.
        timings: phase → seconds.
    """

    lines: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    def say(self, line: str, *, keep: bool = True) -> None:
        if keep:
            self.lines.append(line)
        if is_main_process():
            console.print(line, highlight=False, markup=False)

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.timings[phase] = round(time.monotonic() - begin, 3)


@dataclass(frozen=True, slots=True)
class Session:
    """The parts of a run, ready to train.

    Attributes:
        config: the resolved config.
        voice: where lines for the user go.
        device: of this process.
        precision: resolved for the device.
        method: the loss.
        template: chat template and tokenizer.
        data: encoded groups and the pre-flight report.
        policy: the model that trains.
        reference: what it is compared with, or None.
        rewards: of sampled answers, for online stages; else None.
    """

    config: RunConfig
    voice: Voice
    device: torch.device
    precision: Precision
    method: Method[Any]
    template: Template
    data: RunData
    policy: Policy
    reference: Reference | None
    rewards: WeightedRewards | None = None

    @property
    def starts_equal(self) -> bool:
        """The first margins must be 0: the reference is the starting policy and nothing random is on."""
        if self.rewards is not None:
            return False  # online methods have no margins
        random = self.config.dropout > 0 or noise_alpha(self.config) > 0
        random = random or (self.config.finetuning_type == "lora" and self.config.lora_dropout > 0)
        return self.reference is not None and self.reference.is_start and not random


def prepare(config: RunConfig, notices: Sequence[str] = (), *, judges: JudgeRewards | None = None) -> Session:
    """Build a session: text first, because it is quick and most mistakes are in it; then the model.

    Args:
        config: a resolved run.
        notices: lines about the config that the user has seen already.
        judges: makes a judge that `rewards` names into a reward.

    Raises:
        PalateError: whatever is wrong with data, template, model or config, in one line.
    """
    voice = Voice(list(notices))
    keep_freed_memory()
    if config.torch_threads:
        torch.set_num_threads(config.torch_threads)
    seed_everything(config.seed)
    device = default_device()
    check_quantisation(config.quantization_bit, device)
    reset_peak_memory(device)
    precision = resolve_precision(config.precision, device)
    if precision.notice:
        voice.say(precision.notice)
    check_installed(config)
    method = build_method(config)
    resolve_name(config.model_name_or_path)
    rewards = None
    if isinstance(config, RolloutFields):
        rewards = build_rewards(config.rewards, judges=judges, precision=precision)
    with voice.timed("data"):
        tokenizer = load_tokenizer(
            config.model_name_or_path, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
        add_tokens_of(tokenizer, config.adapters)
        token_notices = add_tokens(tokenizer, config.add_tokens, config.add_special_tokens)
        template = load_template(tokenizer, config.template, variables=thinking(config.enable_thinking))
        data = build_data(config, method, template)
        if rewards is not None:
            rewards.check_columns({name for group in data.train if group.record for name in group.record.extra})
    for line in (*token_notices, *template.notices):
        voice.say(line)
    voice.say(data.summary, keep=False)
    with voice.timed("model"):
        longest = longest_scored(config, data)
        head = "reward" if method.traits.head == "reward" else "lm"
        policy = build_policy(config, precision, device, head=head, longest=longest, tokens=len(tokenizer))
        if head == "reward":
            give_pad_token(policy.model, tokenizer, template.stop_ids)
        limits = check_limits(config, policy.model, template, data)
        reference = build_reference(config, method, policy, precision, device, longest=longest)
        if method.traits.head == "value":
            add_value_head(policy.model)
    for line in (*policy.notices, *limits, *data.notices):
        voice.say(line)
    return Session(config, voice, device, precision, method, template, data, policy, reference, rewards)
