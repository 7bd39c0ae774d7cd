"""All tables: feedback, registry, serving, loop."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"  # earlier numbers were never released
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _people()
    _judges()
    _campaigns()
    _items()
    _tasks()
    _votes()
    _registry()
    _keys()
    _interactions()
    _cycles()
    _gates()


def _column(name: str, kind: Any, *keys: sa.ForeignKey, nullable: bool = False, **flags: Any) -> sa.Column[Any]:
    """A column that must have a value; constraints and indexes get their names from the tables' convention."""
    return sa.Column(name, kind, *keys, nullable=nullable, **flags)


def _columns(kind: Any, *names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    """Columns of one kind that follow each other."""
    return [_column(name, kind, nullable=nullable) for name in names]


def _version(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    """A column with a model version, which is not deleted as long as the row is there."""
    of = sa.ForeignKey("model_versions.id", ondelete="RESTRICT")
    return _column(name, sa.Integer, of, nullable=nullable, index=True)


def _people() -> None:
    """Accounts and logins."""
    op.create_table(
        "users",
        _column("id", sa.Integer, primary_key=True),
        _column("name", sa.String(100), unique=True),
        _column("password_hash", sa.String),
        _column("role", sa.String(20)),
        _column("active", sa.Boolean),
        _column("created", _TIME),
    )
    op.create_table(
        "sessions",
        _column("token_hash", sa.String(64), primary_key=True),
        _column("user_id", sa.Integer, sa.ForeignKey("users.id"), index=True),
        *_columns(_TIME, "created", "expires"),
    )


def _judges() -> None:
    """Judges' replies, endpoints and cards."""
    op.create_table(
        "judge_cards",
        _column("id", sa.Integer, primary_key=True),
        _column("judge", sa.String, index=True),
        _column("content_hash", sa.String(64), unique=True),
        _column("card", sa.JSON),
        _column("at", _TIME),
    )
    op.create_table(
        "judgements",
        _column("key", sa.String(64), primary_key=True),
        _column("judge", sa.String),
        _column("request", sa.JSON),
        _column("text", sa.String),
        _column("outcome", sa.String(12)),
        _column("probability", sa.Double, nullable=True),
        _column("error", sa.String, nullable=True),
        *_columns(sa.Integer, "prompt_tokens", "completion_tokens", nullable=True),
        _column("attempts", sa.Integer),
        _column("at", _TIME),
    )
    op.create_table(
        "endpoints",
        _column("identity", sa.String(64), primary_key=True),
        _column("base_url", sa.String, primary_key=True),
        _column("model", sa.String),
        _column("endpoint", sa.JSON),
        _column("at", _TIME),
    )


def _campaigns() -> None:
    """Campaigns and who takes part."""
    op.create_table(
        "campaigns",
        _column("id", sa.Integer, primary_key=True),
        _column("name", sa.String(100), unique=True),
        _column("version", sa.Integer),
        _column("closed", sa.Boolean),
        *_columns(sa.Integer, "tasks", "slots"),
        _column("created", _TIME),
    )
    op.create_table(
        "campaign_versions",
        _column("campaign_id", sa.Integer, sa.ForeignKey("campaigns.id"), primary_key=True),
        _column("version", sa.Integer, primary_key=True),
        _column("schema", sa.JSON),
        _column("who", sa.String(100)),
        _column("created", _TIME),
    )
    op.create_table(
        "participants",
        _column("campaign_id", sa.Integer, sa.ForeignKey("campaigns.id"), primary_key=True),
        _column("user_id", sa.Integer, sa.ForeignKey("users.id"), primary_key=True),
        *_columns(sa.Integer, "given", "had", "done", "counted"),
        _column("place", sa.Double, nullable=True),
    )


def _items() -> None:
    """Prompts with their answers."""
    op.create_table(
        "items",
        _column("id", sa.Integer, primary_key=True),
        _column("campaign_id", sa.Integer, sa.ForeignKey("campaigns.id")),
        _column("name", sa.String(500)),
        _column("prompt", sa.JSON),
        _column("tools", sa.String, nullable=True),
        _column("columns", sa.JSON),
        _column("content_hash", sa.String(64), index=True),
        _column("created", _TIME),
        sa.UniqueConstraint("campaign_id", "name"),
    )
    op.create_table(
        "responses",
        _column("id", sa.Integer, primary_key=True),
        _column("item_id", sa.Integer, sa.ForeignKey("items.id")),
        _column("number", sa.Integer),
        *_columns(sa.String, "text", "finish_reason"),
        _column("tokens", sa.Integer, nullable=True),
        _column("model", sa.String),
        _column("identity", sa.String, nullable=True),
        _column("seed", sa.BigInteger, nullable=True),
        _column("decoding", sa.JSON),
        _column("content_hash", sa.String(64)),
        sa.UniqueConstraint("item_id", "number"),
    )


def _tasks() -> None:
    """What people compare, and who has it."""
    op.create_table(
        "tasks",
        _column("id", sa.Integer, primary_key=True),
        _column("campaign_id", sa.Integer, sa.ForeignKey("campaigns.id")),
        _column("item_id", sa.Integer, sa.ForeignKey("items.id")),
        *_columns(sa.Integer, "left", "right", "wanted", "votes", "open"),
        _column("priority", sa.Double),
        _column("probability", sa.Double, nullable=True),
        _column("gold", sa.Boolean),
        _column("gold_outcome", sa.String(20), nullable=True),
        *_columns(sa.Boolean, "flagged", "reopened", "identity_leak"),
        sa.UniqueConstraint("item_id", "left", "right"),
    )
    is_open, again = sa.text("open > 0"), sa.text("open > 0 AND reopened")
    op.create_index(
        "ix_tasks_next", "tasks", ["campaign_id", "gold", "priority"], sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_index(
        "ix_tasks_reopened", "tasks", ["campaign_id", "priority"], sqlite_where=again, postgresql_where=again
    )
    op.create_table(
        "leases",
        _column("id", sa.String(36), primary_key=True),
        _column("campaign_id", sa.Integer, sa.ForeignKey("campaigns.id")),
        _column("task_id", sa.Integer, sa.ForeignKey("tasks.id")),
        _column("user_id", sa.Integer, sa.ForeignKey("users.id")),
        *_columns(sa.Integer, "number", "schema_version"),
        _column("repeat", sa.Boolean),
        *_columns(sa.String(12), "shown", "state"),
        *_columns(_TIME, "created", "expires"),
        sa.UniqueConstraint("task_id", "user_id", "repeat"),
        sa.UniqueConstraint("campaign_id", "user_id", "number"),
    )
    op.create_index("ix_leases_expiry", "leases", ["state", "expires"])
    op.create_index("ix_leases_user", "leases", ["campaign_id", "user_id", "state", "number"])


def _votes() -> None:
    """What people and judges said."""
    op.create_table(
        "votes",
        _column("number", sa.Integer, primary_key=True),
        _column("id", sa.String(100), unique=True),
        _column("item_id", sa.Integer, sa.ForeignKey("items.id")),
        _column("campaign_id", sa.Integer, sa.ForeignKey("campaigns.id"), index=True),
        _column("campaign", sa.String(100)),
        *_columns(sa.Integer, "left", "right"),
        _column("outcome", sa.String(12)),
        _column("strength", sa.Integer),
        _column("who", sa.String),
        _column("kind", sa.String(12)),
        _column("user_id", sa.Integer, sa.ForeignKey("users.id"), nullable=True),
        _column("lease_id", sa.String(36), sa.ForeignKey("leases.id"), index=True, nullable=True),
        _column("at", _TIME),
        _column("shown", sa.String(12)),
        _column("reason", sa.String),
        _column("probability_left", sa.Double, nullable=True),
        *_columns(sa.JSON, "tags", "dimensions"),
        _column("schema_version", sa.Integer, nullable=True),
        *_columns(sa.Double, "seconds", "seconds_total", nullable=True),
        *_columns(sa.Boolean, "gold", "repeat", "saw_judge", "identity_leak", "deciding"),
        _column("supersedes", sa.String(100), sa.ForeignKey("votes.id"), unique=True, nullable=True),
        _column("request_key", sa.String(100), unique=True, nullable=True),
    )
    op.create_index("ix_votes_item", "votes", ["item_id", "left", "right"])
    op.create_index("ix_votes_user", "votes", ["user_id", "at"])


def _registry() -> None:
    """Model versions, aliases and their moves."""
    op.create_table(
        "model_versions",
        _column("id", sa.Integer, primary_key=True),
        _column("name", sa.String(100), unique=True),
        _column("content_hash", sa.String(64), unique=True),
        _column("kind", sa.String(12)),
        _column("folder", sa.String),
        _column("files", sa.JSON),
        _version("base_id", nullable=True),
        _column("lineage", sa.JSON),
        _column("note", sa.String),
        _column("who", sa.String(100)),
        _column("complete", sa.Boolean),
        _column("created", _TIME),
    )
    op.create_table(
        "aliases", _column("name", sa.String(100), primary_key=True), _version("version_id"), _column("moved", _TIME)
    )
    op.create_table(
        "alias_moves",
        _column("number", sa.Integer, primary_key=True),
        _column("alias", sa.String(100), index=True),
        _version("version_id"),
        _version("before_id", nullable=True),
        _column("action", sa.String(12)),
        _column("who", sa.String(100)),
        _column("reason", sa.String),
        _column("at", _TIME),
    )


def _keys() -> None:
    """API keys, secrets, exports and deletions."""
    op.create_table(
        "api_keys",
        _column("id", sa.Integer, primary_key=True),
        _column("name", sa.String(100), unique=True),
        _column("key_hash", sa.String(64), unique=True),
        _column("recording", sa.String(12)),
        _column("consent", sa.Boolean),
        *_columns(sa.Integer, "requests_per_minute", "tokens_per_day", "retention_days", nullable=True),
        _column("active", sa.Boolean),
        _column("created", _TIME),
        _column("last_used", _TIME, nullable=True),
        _column("used_day", sa.Integer, nullable=True),
        _column("used_tokens", sa.BigInteger, nullable=True),
    )
    op.create_table("secrets", _column("name", sa.String(100), primary_key=True), _column("value", sa.String(64)))
    op.create_table(
        "interaction_exports",
        _column("folder", sa.String, primary_key=True),
        _column("hashes", sa.JSON),
        _column("at", _TIME),
    )
    op.create_table(
        "deletions",
        _column("id", sa.Integer, primary_key=True),
        _column("kind", sa.String(12)),
        _column("at", _TIME),
        _column("counts", sa.JSON),
    )


def _interactions() -> None:
    """Interactions, their answers, and feedback on them."""
    op.create_table(
        "interactions",
        _column("id", sa.String(64), primary_key=True),
        _column("key_id", sa.Integer, sa.ForeignKey("api_keys.id"), index=True, nullable=True),
        _column("user", sa.String(64)),
        _column("endpoint", sa.String(20)),
        _column("state", sa.String(16)),
        _column("policy", sa.String(12)),
        _column("consent", sa.Boolean),
        _column("model", sa.String),
        _column("identity", sa.String(100), nullable=True),
        _column("template", sa.String(64), nullable=True),
        _column("decoding", sa.JSON),
        _column("route", sa.String(100)),
        _column("probability", sa.Double, nullable=True),
        _column("prompt", sa.JSON, nullable=True),
        _column("tools", sa.String, nullable=True),
        *_columns(sa.Integer, "prompt_tokens", "completion_tokens", nullable=True),
        _column("error", sa.String, nullable=True),
        _column("writer", sa.String(200)),
        *_columns(_TIME, "created", "touched"),
        _column("finished", _TIME, nullable=True),
    )
    op.create_index("ix_interactions_created", "interactions", ["created"])
    op.create_index("ix_interactions_state", "interactions", ["state", "touched"])
    op.create_index("ix_interactions_user", "interactions", ["user", "created"])
    op.create_table(
        "interaction_answers",
        _column("interaction_id", sa.String(64), sa.ForeignKey("interactions.id"), primary_key=True),
        _column("number", sa.Integer, primary_key=True),
        _column("text", sa.String, nullable=True),
        _column("tool_calls", sa.JSON, nullable=True),
        _column("finish_reason", sa.String(40), nullable=True),
        _column("tokens", sa.Integer, nullable=True),
    )
    op.create_table(
        "interaction_feedback",
        _column("number", sa.Integer, primary_key=True),
        _column("interaction_id", sa.String(64), sa.ForeignKey("interactions.id")),
        _column("answer", sa.Integer, nullable=True),
        _column("thumbs", sa.String(4), nullable=True),
        _column("score", sa.Double, nullable=True),
        *_columns(sa.String, "comment", "edit", nullable=True),
        _column("chosen", sa.Integer, nullable=True),
        _column("at", _TIME),
        _column("supersedes", sa.Integer, sa.ForeignKey("interaction_feedback.number"), unique=True, nullable=True),
        _column("request_key", sa.String(64), nullable=True),
        sa.UniqueConstraint("interaction_id", "request_key"),
    )
    op.create_index("ix_interaction_feedback_interaction", "interaction_feedback", ["interaction_id", "answer"])


def _cycles() -> None:
    """Cycles of the loop and their steps."""
    op.create_table(
        "cycles",
        _column("id", sa.Integer, primary_key=True),
        _column("loop", sa.String(100)),
        _column("number", sa.Integer),
        _column("folder", sa.String),
        _column("config_hash", sa.String(64)),
        _column("config", sa.JSON),
        _column("incumbent", sa.String(100)),
        _column("incumbent_hash", sa.String(64)),
        _column("candidate", sa.String(100), nullable=True),
        _column("candidate_hash", sa.String(64), nullable=True),
        _column("outcome", sa.String(20), nullable=True),
        _column("started", _TIME),
        _column("finished", _TIME, nullable=True),
        sa.UniqueConstraint("loop", "number"),
    )
    op.create_table(
        "cycle_steps",
        _column("cycle_id", sa.Integer, sa.ForeignKey("cycles.id"), primary_key=True),
        _column("name", sa.String(20), primary_key=True),
        _column("state", sa.String(12)),
        _column("input_hash", sa.String(64)),
        _column("output", sa.JSON),
        _column("waits_for", sa.String),
        _column("until", _TIME, nullable=True),
        _column("error", sa.String),
        _column("attempts", sa.Integer),
        _column("started", _TIME),
        _column("finished", _TIME, nullable=True),
    )


def _gates() -> None:
    """Verdicts of gates, decisions on them, canaries."""
    op.create_table(
        "gate_runs",
        _column("id", sa.Integer, primary_key=True),
        _column("cycle_id", sa.Integer, sa.ForeignKey("cycles.id"), index=True, nullable=True),
        _column("candidate", sa.String(100), index=True),
        _column("incumbent", sa.String(100)),
        _column("outcome", sa.String(12)),
        _column("attempt", sa.Integer),
        _column("config_hash", sa.String(64)),
        _column("content_hash", sa.String(64), unique=True),
        _column("verdict", sa.JSON),
        _column("at", _TIME),
    )
    op.create_table(
        "gate_decisions",
        _column("id", sa.Integer, primary_key=True),
        _column("gate_run_id", sa.Integer, sa.ForeignKey("gate_runs.id", ondelete="RESTRICT"), index=True),
        _column("action", sa.String(12)),
        _column("who", sa.String(100)),
        _column("reason", sa.String),
        _column("at", _TIME),
    )
    op.create_table(
        "canary_moves",
        _column("number", sa.Integer, primary_key=True),
        _column("alias", sa.String(100), index=True),
        _version("version_id"),
        _column("share", sa.Double),
        _column("who", sa.String(100)),
        _column("reason", sa.String),
        _column("at", _TIME),
    )
