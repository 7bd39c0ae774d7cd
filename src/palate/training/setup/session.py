"""The parts of a run, built in the order in which mistakes in the config are found soonest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from palate.config.run import RunConfig
from palate.config.stages.rollout import RolloutFields
from palate.config.steps import doubtful_settings
from palate.models.cpu.allocator import keep_freed_memory
from palate.models.loading.load import check_quantisation
from palate.models.loading.resolve import resolve_name
from palate.models.loading.spec import starting_model
from palate.models.precision import Precision, default_device
from palate.models.precision import resolve as resolve_precision
from palate.models.reference.kinds import Reference
from palate.models.reward_model import give_pad_token
from palate.models.scoring.value_head import add_value_head
from palate.models.tuning.vocabulary import add_tokens
from palate.progress import print_line
from palate.text.template import Template
from palate.training.methods import Method, build_method
from palate.training.online.rewards import JudgeRewards, WeightedRewards, build_rewards
from palate.training.processes import is_main_process, process_count
from palate.training.setup.arguments import check_installed
from palate.training.setup.build import Policy, build_policy, noise_alpha
from palate.training.setup.dataset import RunData, build_data
from palate.training.setup.environment import machine, reset_peak_memory, seed_everything, versions
from palate.training.setup.limits import check_limits, longest_scored
from palate.training.setup.references import build_reference
from palate.training.sharded import check_shardable, shards_of


@dataclass
class RunLog:
    """Lines for the user and timings. The main process prints the lines on stderr; both are kept for `run.json`.

    Attributes:
        lines: printed so far, after the notices from reading the config.
        timings: phase → seconds.
    """

    lines: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    def info(self, line: str, *, keep: bool = True, notice: bool = False) -> None:
        """Print a line, a notice also with `--quiet`; `keep` also records it."""
        if keep:
            self.lines.append(line)
        if is_main_process():
            print_line(line, notice=notice)

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
        log: lines for the user, and timings.
        device: of this process.
        precision: resolved for the device.
        method: the loss.
        template: chat template and tokenizer.
        data: encoded groups and the report on them.
        policy: the model that trains.
        reference: the model that it is compared with, or None.
        rewards: of sampled answers, for online stages; else None.
    """

    config: RunConfig
    log: RunLog
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
        """Whether the first margins must be 0: the reference is the starting policy, and nothing is random."""
        if self.rewards is not None:
            return False  # online methods have no margins
        random = self.config.dropout > 0 or noise_alpha(self.config) > 0
        random = random or (self.config.finetuning_type == "lora" and self.config.lora_dropout > 0)
        return self.reference is not None and self.reference.is_start and not random

    def facts(self) -> dict[str, Any]:
        """Config, versions, machine, model, reference and data, as run.json records them at the start."""
        config, policy, data, reference = self.config, self.policy, self.data, self.reference
        return {
            "schema": 1,
            "stage": config.stage,
            "config": config.resolved(),
            "versions": versions(),
            "machine": machine(self.device),
            "precision": self.precision.name,
            "attention": policy.probe.attention,
            "model": {
                "name": config.model_name_or_path,
                "identity": policy.identity,
                "trainable_parameters": policy.trainable,
                "total_parameters": policy.total,
            },
            "reference": (
                {"kind": "none", "identity": None}
                if reference is None
                else {"kind": reference.kind, "identity": reference.identity, "is_start": reference.is_start}
            ),
            "objective": self.method.traits.name,
            "data": dict(data.facts),
        }


def prepare(config: RunConfig, notices: Sequence[str] = (), *, judges: JudgeRewards | None = None) -> Session:
    """Build a session: the data first, because that is quick and most mistakes are there; then the model.

    Args:
        config: a resolved run.
        notices: lines about the config that the user has seen already.
        judges: makes rewards of the judges that `rewards` names.

    Raises:
        PalateError: data, template, model or config are wrong; in one line.
    """
    log = RunLog(list(notices))
    keep_freed_memory()
    if config.torch_threads:
        torch.set_num_threads(config.torch_threads)
    seed_everything(config.seed)
    device = default_device()
    check_quantisation(config.quantization_bit, device)
    reset_peak_memory(device)
    precision = resolve_precision(config.precision, device)
    if precision.notice:
        log.info(precision.notice, notice=True)
    check_installed(config, device)
    method = build_method(config)
    spec = starting_model(config.resolved())
    resolve_name(spec.model)
    rewards = None
    if isinstance(config, RolloutFields):
        rewards = build_rewards(config.rewards, judges=judges, precision=precision)
    with log.timed("data"):
        tokenizer = spec.tokenizer()
        token_notices = add_tokens(tokenizer, config.add_tokens, config.add_special_tokens)
        template = spec.chat_template(tokenizer)
        data = build_data(config, method, template)
        if rewards is not None:
            rewards.check_columns({name for group in data.train if group.record for name in group.record.extra})
    for line in token_notices:
        log.info(line)
    for line in template.notices:
        log.info(line, notice=True)
    log.info(data.summary, keep=False)
    with log.timed("model"):
        longest = longest_scored(config, data)
        head = "reward" if method.traits.head == "reward" else "lm"
        shards = shards_of(config, precision, device)
        policy = build_policy(
            config, precision, device, head=head, longest=longest, tokens=len(tokenizer), shards=shards
        )
        if head == "reward":
            give_pad_token(policy.model, tokenizer, template.stop_ids)
        limits = check_limits(config, policy.model, template, data)
        reference = build_reference(config, method, policy, precision, device, longest=longest, shards=shards)
        if about := check_shardable(config, reference, device):
            log.info(about, notice=True)
        if method.traits.head == "value":
            add_value_head(policy.model)
    for line in policy.notices:
        log.info(line, notice=line.startswith("warning: "))
    doubts = doubtful_settings(
        config,
        len(data.train),
        len(data.evaluation),
        devices=process_count(),
        parameters=policy.total,
    )
    for line in (*limits, *(f"warning: {doubt}" for doubt in doubts), *data.notices):
        log.info(line, notice=True)
    return Session(config, log, device, precision, method, template, data, policy, reference, rewards)
