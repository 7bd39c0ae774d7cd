"""API keys, interactions, their answers and feedback, exports, deletions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("recording", sa.String(length=12), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("tokens_per_day", sa.Integer(), nullable=True),
        sa.Column("retention_days", sa.Integer(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
        sa.UniqueConstraint("name", name=op.f("uq_api_keys_name")),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "interaction_exports",
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("hashes", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("folder", name=op.f("pk_interaction_exports")),
    )
    op.create_table(
        "deletions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletions")),
    )
    op.create_table(
        "interactions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=True),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("policy", sa.String(length=12), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("identity", sa.String(length=100), nullable=True),
        sa.Column("template", sa.String(length=64), nullable=True),
        sa.Column("decoding", sa.JSON(), nullable=False),
        sa.Column("route", sa.String(length=100), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("prompt", sa.JSON(), nullable=True),
        sa.Column("tools", sa.String(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("writer", sa.String(length=200), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("touched", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_interactions_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_interactions")),
    )
    op.create_index("ix_interactions_created", "interactions", ["created"], unique=False)
    op.create_index(op.f("ix_interactions_key_id"), "interactions", ["key_id"], unique=False)
    op.create_index("ix_interactions_state", "interactions", ["state", "touched"], unique=False)
    op.create_index("ix_interactions_user", "interactions", ["user", "created"], unique=False)
    op.create_table(
        "interaction_answers",
        sa.Column("interaction_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("tool_calls", sa.JSON(), nullable=True),
        sa.Column("finish_reason", sa.String(length=40), nullable=True),
        sa.Column("tokens", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["interaction_id"], ["interactions.id"], name=op.f("fk_interaction_answers_interaction_id")
        ),
        sa.PrimaryKeyConstraint("interaction_id", "number", name=op.f("pk_interaction_answers")),
    )
    op.create_table(
        "interaction_feedback",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("interaction_id", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Integer(), nullable=True),
        sa.Column("thumbs", sa.String(length=4), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("comment", sa.String(), nullable=True),
        sa.Column("edit", sa.String(), nullable=True),
        sa.Column("chosen", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("supersedes", sa.Integer(), nullable=True),
        sa.Column("request_key", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["interaction_id"], ["interactions.id"], name=op.f("fk_interaction_feedback_interaction_id")
        ),
        sa.ForeignKeyConstraint(
            ["supersedes"], ["interaction_feedback.number"], name=op.f("fk_interaction_feedback_supersedes")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_interaction_feedback")),
        sa.UniqueConstraint(
            "interaction_id", "request_key", name=op.f("uq_interaction_feedback_interaction_id_request_key")
        ),
        sa.UniqueConstraint("supersedes", name=op.f("uq_interaction_feedback_supersedes")),
    )
    op.create_index(
        "ix_interaction_feedback_interaction", "interaction_feedback", ["interaction_id", "answer"], unique=False
    )
