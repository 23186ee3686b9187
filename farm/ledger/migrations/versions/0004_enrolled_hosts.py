"""Enrolled hosts, their quarantine and their self-tests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = postgresql.TIMESTAMP(timezone=True)
_JSON = postgresql.JSONB(astext_type=sa.Text())
_COLUMNS = (
    *(("instance", sa.Text()), ("notice", sa.Text()), ("quarantined", _TIME)),
    *(("quarantine_reason", sa.Text()), ("released", _TIME)),
)


def upgrade() -> None:
    op.add_column("host", sa.Column("project_id", sa.Text(), sa.ForeignKey("project.id"), nullable=True))
    for name, kind in _COLUMNS:
        op.add_column("host", sa.Column(name, kind, nullable=True))
    op.add_column("host", sa.Column("joined", _TIME, server_default=sa.text("now()"), nullable=False))
    op.create_table(
        "enrolment",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("created", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "self_test",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("runtime", sa.Text(), nullable=False),
        sa.Column("asked", _TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("ended", _TIME, nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reasons", _JSON, nullable=False),
        sa.Column("figures", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["host"], ["host.name"]),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("self_test_history", "self_test", ["host", "asked"])
    op.create_index("self_test_open", "self_test", ["id"], postgresql_where=sa.text("verdict = 'running'"))
    op.create_index("self_test_job", "self_test", ["job_id"])
    op.create_index("step_pace", "step", ["queue", "ended"], postgresql_where=sa.text("phase = 'succeeded'"))
    op.create_index(
        "attempt_host_failures",
        "attempt",
        ["ended"],
        postgresql_where=sa.text("failure->>'who_must_act' = 'host'"),
    )


def downgrade() -> None:
    op.drop_index("attempt_host_failures", table_name="attempt")
    op.drop_index("step_pace", table_name="step")
    op.drop_table("self_test")
    op.drop_table("enrolment")
    op.drop_column("host", "joined")
    for name, _ in reversed(_COLUMNS):
        op.drop_column("host", name)
    op.drop_column("host", "project_id")
