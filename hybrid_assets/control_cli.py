"""Commands of the control plane: jobs, approve, reject, cancel, replay, backend, audit, cache, spending, reconcile.

Here: arguments and printing. Not here: what they do (``resources.dispatcher``). Whoever acts is named by
``HYBRID_USER``, else by the operating system, and stands in the audit log.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from hybrid_assets.terminal import err, say, show
from resources.failures import InputError
from resources.home import Home

if TYPE_CHECKING:
    from resources.dispatcher import Dispatcher
    from resources.ledger_tables import Job

Reason = Annotated[str, typer.Option(help="why; it stands in the audit log")]
JobId = Annotated[str, typer.Argument(help="the job's id, or its beginning")]

audit_app = typer.Typer(help="The log of the control plane's decisions.", no_args_is_help=True)
cache_app = typer.Typer(help="Results that may answer again.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to ``hybrid``."""
    for command in (jobs, approve, reject, cancel, replay, backend, spending, reconcile):
        app.command()(command)
    app.add_typer(audit_app, name="audit")
    app.add_typer(cache_app, name="cache")


def _dispatcher() -> Dispatcher:
    from resources.assembly import build_dispatcher

    return build_dispatcher(Home.from_environment().prepare())


def _me() -> str:
    from resources.audit import actor

    return actor()


def jobs(
    limit: Annotated[int, typer.Option(help="newest so many", min=1)] = 30,
    state: Annotated[str | None, typer.Option(help="only jobs in this state")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="only jobs that wait for a person, and why")] = False,
    history: Annotated[str | None, typer.Option(metavar="JOB", help="every state change of one job")] = None,
) -> None:
    """Quantum jobs of the ledger, newest first."""
    from resources.ledger_tables import TRANSITIONS

    work = _dispatcher()
    if history is not None:
        job = work.known_job(history)
        table = Table("at", "state", "what happened", title=f"{job.job_id} ({job.instance})")
        for event in work.ledger.snapshot()[1]:
            if event["job_id"] == job.job_id:
                table.add_row(f"{event['at']:%Y-%m-%d %H:%M:%S}", event["state"], event["detail"])
        show(table)
        return
    if waiting:
        asked = {approval.job_id: approval for approval in work.approvals.waiting()}
        table = Table("job", "instance", "owner", "backend", "asked", "why")
        for job in work.ledger.jobs(state="awaiting_approval"):
            approval = asked.get(job.job_id)
            since = f"{approval.requested_at:%Y-%m-%d %H:%M}" if approval else ""
            table.add_row(job.job_id, job.instance, job.owner, job.backend, since, approval.why if approval else "")
        show(table)
        return
    if state is not None and state not in TRANSITIONS:
        raise InputError("--state", state, "there is no such state", f"use one of {', '.join(TRANSITIONS)}")
    table = Table("job", "instance", "backend", "evidence", "state", "sent", "hops", "created", "why")
    for job in work.ledger.jobs(state=state)[::-1][:limit]:
        table.add_row(
            job.job_id,
            job.instance,
            job.backend,
            (job.evidence_class or "") + (", cached" if job.cached else ""),
            job.state,
            str(job.attempts),
            str(job.hop),
            f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            job.error or _last_hop(job),
        )
    show(table)


def _last_hop(job: Job) -> str:
    path = json.loads(job.fallback_path)
    return f"after {path[-1]['backend']}: {path[-1]['reason']}" if path else ""


def approve(job: JobId, reason: Reason) -> None:
    """Let a waiting job be sent."""
    done = _dispatcher().decide(_known(job), "approved", by=_me(), reason=reason)
    err.print(
        f"{done.job_id} is {done.state}; `hybrid run`, `hybrid measure`, `hybrid reconcile` or the sensor sends it."
    )


def reject(job: JobId, reason: Reason) -> None:
    """End a waiting job unsent."""
    done = _dispatcher().decide(_known(job), "rejected", by=_me(), reason=reason)
    err.print(f"{done.job_id} is {done.state}.")


def _known(job: str) -> str:
    return _dispatcher().known_job(job).job_id


def cancel(job: JobId, reason: Reason) -> None:
    """Stop an open job, at its provider too."""
    _said(_dispatcher().cancel(job, by=_me(), reason=reason))


def replay(
    job: JobId,
    reason: Reason,
    backend: Annotated[str | None, typer.Option(help="another backend than the first time")] = None,
) -> None:
    """Run a job again from its envelope, linked to the original."""
    from resources.ledger_tables import TERMINAL

    work = _dispatcher()
    again = work.replay(job, by=_me(), reason=reason, backend=backend)
    _said(again)
    if again.state == "succeeded":
        first, second = work.known_job(job), work.stored_result(again.job_id)
        table = Table("job", "backend", "evidence", "shots", "lowest energy or first value", "seconds")
        results = [(first, work.stored_result(first.job_id))] if first.result_ref else []
        for row, result in [*results, (again, second)]:
            table.add_row(
                row.job_id,
                result.backend,
                str(result.evidence_class),
                str(result.shots),
                f"{result.samples[0].energy if result.samples else result.values[0][-1]:.8g}",
                f"{result.timings.total:.3f}",
            )
        show(table)
    elif again.state in TERMINAL:
        raise typer.Exit(1)


def _said(job: Job) -> None:
    err.print(
        f"{job.job_id} on {job.backend} is {job.state}" + (f": {job.error}" if job.error else "") + ".", soft_wrap=True
    )


def backend(
    name: Annotated[str | None, typer.Argument(help="a backend; without one, all that were set by hand")] = None,
    mode: Annotated[str | None, typer.Argument(help="open, paused, drained or killed")] = None,
    reason: Annotated[str, typer.Option(help="why; it stands in the audit log")] = "",
) -> None:
    """Pause a backend (jobs wait), drain it (no new jobs), kill it, or open it again, for all processes."""
    from resources.controls import Mode

    work = _dispatcher()
    if name is not None:
        _registered(work, name)
    if name is not None and mode is not None:
        if mode not in set(Mode):
            raise InputError("mode", mode, "there is no such mode", f"use one of {', '.join(Mode)}")
        work.control(name, Mode(mode), by=_me(), reason=reason)
        err.print(f"{name} is {mode}.")
        return
    table = Table("backend", "set by hand", "by", "why", "breaker", "failures in a row", "last reason")
    modes, breakers = {c.backend: c for c in work.controls.all()}, {b.backend: b for b in work.breakers.states()}
    for each in sorted({*modes, *breakers} if name is None else {name}):
        control, state = modes.get(each), breakers.get(each)
        table.add_row(
            each,
            str(control.mode) if control else "open",
            control.set_by if control else "",
            control.reason if control else "",
            state.state if state else "closed",
            str(state.failures) if state else "0",
            state.reason if state else "",
        )
    show(table)


def _registered(work: Dispatcher, name: str) -> None:
    if name not in work.backend_names:
        raise InputError("backend", name, "no backend has this name", f"use one of {', '.join(work.backend_names)}")


def spending(month: Annotated[str | None, typer.Option(help="YYYY-MM, by default this month")] = None) -> None:
    """What every owner has spent and reserved in a month, and what they may."""
    import sqlalchemy as sa

    from resources.ledger_tables import SPENDING
    from resources.money import month_of

    work, when = _dispatcher(), month or month_of()
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", when):
        raise InputError("--month", when, "it is no month", "write for example 2026-11")
    owners: list[str]
    with work.ledger.engine.connect() as tx:
        owners = list(tx.execute(sa.select(SPENDING.c.owner).filter_by(month=when).distinct()).scalars())
    table = Table("owner", f"{when}, {work.policy.currency}", "jobs", "budget")
    for owner in sorted(owners):
        spent, budget = work.spending.spent(owner, when), work.spending.budget(owner)
        limits = [
            f"{budget.money:g} {work.policy.currency}" if budget and budget.money is not None else "",
            f"{budget.jobs} jobs" if budget and budget.jobs is not None else "",
        ]
        table.add_row(owner, f"{spent.money:.4f}", str(spent.jobs), ", ".join(filter(None, limits)) or "no limit")
    show(table)


def reconcile(
    wait: Annotated[float, typer.Option(help="seconds to go on while jobs are open", min=0.0)] = 0.0,
) -> None:
    """Look at all open jobs that are due: adopt, collect, send on. The sensor does the same."""
    work, until = _dispatcher(), time.monotonic() + wait
    while True:
        done = work.reconcile()
        for job in done.ended:
            _said(job)
        for problem in done.problems:
            err.print(problem, style="red")
        open_ = [job for job in work.ledger.jobs() if job.ended_at is None and job.state != "awaiting_approval"]
        if not open_ or time.monotonic() >= until:
            break
        time.sleep(0.5)
    err.print(f"open jobs: {len(open_)}")


@audit_app.command("verify")
def audit_verify() -> None:
    """Whether any row of the log was altered, removed or added; exit code 1 if so."""
    log = _dispatcher().audit
    problems = log.verify()
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)
    sequence, digest = log.head()
    say(f"{sequence} rows, all intact; the last digest is {digest}")


@audit_app.command("log")
def audit_log(
    limit: Annotated[int, typer.Option(help="newest so many", min=1)] = 50,
    json_: Annotated[bool, typer.Option("--json", help="one JSON document per row, oldest first")] = False,
) -> None:
    """Who decided what, when and why."""
    rows: list[dict[str, Any]] = list(_dispatcher().audit.rows())[-limit:]
    if json_:
        for row in rows:
            print(json.dumps(row))
        return
    table = Table("#", "at", "who", "what", "about", "job", "why", "policy")
    for row in rows[::-1]:
        table.add_row(
            str(row["sequence"]),
            row["at"][:19],
            row["actor"],
            " ".join(filter(None, (row["action"], json.loads(row["detail"] or "{}").get("mode")))),
            row["subject"],
            row["job_id"] or "",
            row["reason"],
            row["policy_version"],
        )
    show(table)


@cache_app.command("invalidate")
def cache_invalidate(
    reason: Reason,
    backend: Annotated[str | None, typer.Option(help="results of this backend")] = None,
    job: Annotated[str | None, typer.Option(help="the result of this job")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="all results")] = False,
) -> None:
    """Results that must not answer again."""
    work = _dispatcher()
    if backend is not None:
        _registered(work, backend)
    known = work.known_job(job).job_id if job is not None else None
    number = work.cache.invalidate(backend=backend, job_id=known, everything=everything, by=_me(), reason=reason)
    err.print(f"{number} results do not answer any more.")
