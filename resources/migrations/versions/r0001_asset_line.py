"""The asset line: jobs, their events, envelopes, landed files."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("idempotency_key", sa.String, nullable=False, unique=True),
        sa.Column("envelope_digest", sa.String, nullable=False, index=True),
        sa.Column("instance", sa.String, nullable=False, index=True),
        sa.Column("family", sa.String, nullable=False),
        sa.Column("correlation_id", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("claimed_by", sa.String),
        sa.Column("provider_id", sa.String),
        sa.Column("result_ref", sa.String),
        sa.Column("error", sa.String),
        sa.Column("fallback_path", sa.String, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.job_id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
    )
    op.create_table(
        "envelopes",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("document", sa.String, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_table(
        "landings",
        sa.Column("instance", sa.String, primary_key=True),
        sa.Column("family", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("member", sa.Integer, nullable=False),
        sa.Column("source_digest", sa.String, nullable=False),
        sa.Column("content_ref", sa.String, nullable=False),
        sa.Column("options", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
