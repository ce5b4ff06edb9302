"""The control plane: leases, hops, costs and owners of jobs; audit log, breakers, controls, spending, approvals,
result cache.

What earlier jobs did not record is taken from their envelopes. Their providers got the idempotency key as their key.
"""

import hashlib
import json
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True)
TERMINAL = ("succeeded", "failed", "cancelled", "timed_out", "rejected")
OPEN = ("intended", "submitting", "ambiguous", "submitted", "running")

#: ``(table, may not happen, unless)``
KEPT = (
    ("audit_log", "UPDATE", ""),
    ("audit_log", "DELETE", ""),
    # several rows may be added at once; the end never goes back
    ("audit_head", "UPDATE", "NEW.sequence <= OLD.sequence"),
    ("audit_head", "DELETE", ""),
)
SENTENCE = "the audit log is append-only"


def upgrade() -> None:
    """Add columns and tables, fill in what is known, forbid changes of the audit log."""
    for column in (
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("owner", sa.String, nullable=False, server_default=""),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("hop", sa.Integer, nullable=False, server_default="0"),
        sa.Column("provider_key", sa.String, nullable=False, server_default=""),
        sa.Column("resubmissions", sa.Integer, nullable=False, server_default="0"),
        sa.Column("unreadable", sa.Integer, nullable=False, server_default="0"),
        sa.Column("claimed_until", MOMENT),
        sa.Column("look_at", MOMENT),
        sa.Column("looks", sa.Integer, nullable=False, server_default="0"),
        sa.Column("began_at", MOMENT),
        sa.Column("sent_at", MOMENT),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("evidence_class", sa.String),
        sa.Column("cached", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("estimated_cost", sa.Float, nullable=False, server_default="0"),
        sa.Column("actual_cost", sa.Float, nullable=False, server_default="0"),
        sa.Column("policy_version", sa.String, nullable=False, server_default=""),
        sa.Column("replay_of", sa.String),
    ):
        op.add_column("jobs", column)
    op.create_index("jobs_due", "jobs", ["look_at", "state"])
    for name in ("idempotency_key", "instance"):
        op.add_column("envelopes", sa.Column(name, sa.String, nullable=False, server_default=""))
        op.create_index(f"ix_envelopes_{name}", "envelopes", [name])
    _make_tables()
    _fill_in()
    op.execute(f"INSERT INTO audit_head (id, sequence, digest) VALUES (1, 0, '{'0' * 64}')")
    (_forbid_on_sqlite if op.get_bind().dialect.name == "sqlite" else _forbid_on_postgresql)()


def _make_tables() -> None:
    op.create_table(
        "audit_log",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("job_id", sa.String),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("policy_version", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("previous", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    op.create_table(
        "breakers",
        sa.Column("backend", sa.String, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("opened", sa.Integer, nullable=False),
        sa.Column("open_until", MOMENT),
        sa.Column("probe_by", sa.String),
        sa.Column("probe_until", MOMENT),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
    op.create_table(
        "controls",
        sa.Column("backend", sa.String, primary_key=True),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("set_by", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
    op.create_table(
        "spending",
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.job_id"), primary_key=True),
        sa.Column("provider_key", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("month", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("reserved", sa.Float, nullable=False),
        sa.Column("actual", sa.Float),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
    op.create_index("spending_of_owner", "spending", ["owner", "month"])
    op.create_table(
        "approvals",
        sa.Column("job_id", sa.String, sa.ForeignKey("jobs.job_id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.Column("decision", sa.String),
        sa.Column("decided_by", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("decided_at", MOMENT),
    )
    op.create_table(
        "result_cache",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("problem", sa.String, nullable=False, index=True),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("algorithm", sa.String, nullable=False),
        sa.Column("calibration_window", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("result_ref", sa.String, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("invalidated_at", MOMENT),
        sa.Column("reason", sa.String),
    )


def _fill_in() -> None:
    tx = op.get_bind()
    old = sa.MetaData()
    jobs = sa.Table("jobs", old, autoload_with=tx)
    envelopes = sa.Table("envelopes", old, autoload_with=tx)
    events = sa.Table("job_events", old, autoload_with=tx)
    newest = sa.select(sa.func.max(events.c.sequence)).where(events.c.job_id == jobs.c.job_id).scalar_subquery()
    tx.execute(jobs.update().values(provider_key=jobs.c.idempotency_key, version=sa.func.coalesce(newest, 0)))
    tx.execute(jobs.update().where(jobs.c.state.in_(TERMINAL)).values(ended_at=jobs.c.updated_at))
    tx.execute(jobs.update().where(jobs.c.state.in_(OPEN)).values(look_at=jobs.c.updated_at))
    for job in tx.execute(sa.select(jobs.c.job_id, jobs.c.updated_at).where(jobs.c.state == "submitting")).all():
        # a process may be sending right now
        until = job.updated_at + timedelta(minutes=10)
        tx.execute(jobs.update().where(jobs.c.job_id == job.job_id).values(claimed_until=until))
    for digest, document in tx.execute(sa.select(envelopes.c.digest, envelopes.c.document)).all():
        try:
            envelope = json.loads(str(document))
            known = {"idempotency_key": _key(envelope), "instance": envelope["instance"]}
            owner, priority = envelope["owner"], envelope["priority"]
            chain = [envelope["backend"], *envelope["fallback"]]
        except (ValueError, KeyError, TypeError):
            # altered: reading it says so
            continue
        tx.execute(envelopes.update().where(envelopes.c.digest == digest).values(**known))
        mine = jobs.c.envelope_digest == digest
        tx.execute(jobs.update().where(mine).values(owner=owner, priority=priority))
        for hop, backend in enumerate(chain):
            tx.execute(jobs.update().where(mine, jobs.c.backend == backend).values(hop=hop))


def _key(envelope: dict[str, Any]) -> str:
    """The idempotency key as version 1 of the envelope had it."""
    parts = {
        "payload": envelope["payload_ref"],
        "kind": envelope["kind"],
        "algorithm": envelope["algorithm"],
        "backend": envelope["backend"],
        "execution": envelope["timeout"]["execution"],
        "repetition": envelope["repetition"],
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _forbid_on_sqlite() -> None:
    # an INSERT OR REPLACE deletes without a DELETE trigger
    again = (
        ("audit_log", "INSERT", "EXISTS (SELECT 1 FROM audit_log WHERE sequence = NEW.sequence)"),
        ("audit_head", "INSERT", "EXISTS (SELECT 1 FROM audit_head)"),
    )
    for table, what, when in (*KEPT, *again):
        op.execute(
            f"CREATE TRIGGER {table}_{what.lower()} BEFORE {what} ON {table} "
            f"{f'WHEN {when}' if when else ''} BEGIN SELECT RAISE(ABORT, '{SENTENCE}'); END"
        )


def _forbid_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_log_kept() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{SENTENCE}'; END $$"
    )
    for table, what, when in KEPT:
        op.execute(
            f"CREATE TRIGGER {table}_{what.lower()} BEFORE {what} ON {table} FOR EACH ROW "
            f"{f'WHEN ({when})' if when else ''} EXECUTE FUNCTION audit_log_kept()"
        )
    for table in ("audit_log", "audit_head"):
        op.execute(f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION audit_log_kept()")
