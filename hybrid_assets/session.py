"""A session on this machine: the Dagster instance in ``var/dagster``, the definitions, and runs in this process.

Here: what the ``hybrid`` command does between parsing its arguments and printing. Not here: either of those.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import dagster as dg
from pydantic import ValidationError

from hybrid_assets import registry
from hybrid_assets.assets.landed_files import register
from hybrid_assets.landing import Address, check_file, instance_of, land, land_found, scan
from hybrid_assets.line import CONTINUES, LINE, Outcome, bury_dead_runs, here, problem_of, run_line, stale_stages
from hybrid_assets.request import Request, Resolved, parse, resolve
from hybrid_assets.routes import decide
from resources.assembly import build_dispatcher, build_lake
from resources.controls import Mode
from resources.dispatcher import Dispatcher
from resources.environments import SETTINGS, current_environment
from resources.event_log import storage_yaml
from resources.failures import HybridError, InputError
from resources.home import PROJECT, Home, inbox
from resources.lake import Lake
from resources.ledger_tables import TERMINAL, Landing
from resources.policy import load
from resources.routing import NoRoute

Progress = Callable[[str, str], None]
#: Run configuration that replaces Dagster's console log by this session's progress.
LOGGING: dict[str, Any] = {"loggers": {"progress": {}}}
#: How Dagster's own notes about a pending stage begin.
DAGSTER_SAYS = ("Skipping step ", "op '")


def quiet(*_: Any) -> None:
    """Progress for nobody."""


@dataclass
class Session:
    """Everything one process needs to work on a home."""

    home: Home
    instance: dg.DagsterInstance
    progress: Progress = quiet

    @cached_property
    def defs(self) -> dg.Definitions:
        """The definitions, with step events going to ``progress`` instead of a console full of log lines."""
        from hybrid_assets.definitions import build_defs

        return build_defs(home=self.home, loggers={"progress": _progress_logger(self.progress)})

    @cached_property
    def repository(self) -> dg.RepositoryDefinition:
        """The definitions, resolved."""
        with warnings.catch_warnings():
            # Dagster warns of a beta parameter that it passes itself, for every sensor
            warnings.filterwarnings("ignore", "Parameter `owners`", dg.BetaWarning)
            return self.defs.get_repository_def()

    @property
    def dispatcher(self) -> Dispatcher:
        """The control plane of this home."""
        return build_dispatcher(self.home)

    @property
    def lake(self) -> Lake:
        """The lake of this home."""
        from hybrid_assets import contracts

        return build_lake(self.home, tuple((t, contracts.arrow_schema(t)) for t in contracts.TABLES))

    # --- landing ----------------------------------------------------------------------------------------------------

    def land_inbox(self) -> tuple[list[Landing], list[str]]:
        """Land every file of the inbox; the second list says in a sentence each what was refused."""
        landings, refused = [], []
        # a wrong policy is no file's fault
        dispatcher = self.dispatcher
        for found in scan(inbox()):
            try:
                landings += land_found(dispatcher.ledger, dispatcher.artifacts, found)
            except InputError as error:
                refused.append(str(error))
        for landing in landings:
            register(self.instance, landing)
        return landings, refused

    def land_file(self, address: Address, family: str | None, request: Request) -> Landing:
        """Validate a file completely, then land it.

        Raises:
            InputError: nothing was stored.
        """
        if request.backend and request.backend not in self.dispatcher.backend_names:
            raise InputError(
                "request",
                "backend",
                f"no backend is registered as {request.backend!r}",
                f"use one of {', '.join(self.dispatcher.backend_names)}",
            )
        if request.encoding and request.encoding not in registry.names("encodings"):
            raise InputError(
                "request",
                "encoding",
                f"no encoding is registered as {request.encoding!r}",
                f"use one of {', '.join(registry.names('encodings'))}",
            )
        name, source, _ = check_file(address, family, request)
        landing = land(
            self.dispatcher.ledger, self.dispatcher.artifacts, address.path, name, source, address.member, request
        )
        register(self.instance, landing)
        return landing

    def retire(self, key: str) -> None:
        """Take an instance out of the line; its history stays.

        Raises:
            InputError: there is no such instance.
        """
        if self.dispatcher.ledger.landing(key) is None:
            raise InputError(key, "instance", "there is no such instance", "look at `hybrid leaderboard` for the keys")
        self.dispatcher.ledger.mark_landing(key, "retired")
        if self.instance.has_dynamic_partition("instances", key):
            self.instance.delete_dynamic_partition("instances", key)

    def unanswered(self, keys: list[str]) -> dict[str, str]:
        """Those of these instances that were decided without a feasible answer, with the reason."""
        rows = self.lake.read("decisions", keys) if keys else None
        if rows is None or rows.empty:
            return {}
        rows = rows[~rows["feasible"].astype(bool)]
        return dict(zip(rows["instance"], rows["reason"], strict=True))

    # --- running ----------------------------------------------------------------------------------------------------

    def stale(self, key: str) -> list[str]:
        """Stages of an instance that are missing or out of date."""
        stages = stale_stages(self.instance, self.repository.asset_graph, key)
        if stages:
            return stages
        return list(LINE) if self._decided_otherwise(key) else []

    def _decided_otherwise(self, key: str) -> bool:
        """Whether environment, settings or policy would now ask for something else than what was answered.

        While policy and settings are those of the decision it stands: what is known about the backends changes by the
        hour, and no answer expires with it.
        """
        landing, rows = self.dispatcher.ledger.landing(key), self.lake.read("normalized_inputs", [key])
        if landing is None or rows.empty:
            return True
        settings, row = SETTINGS[current_environment()], rows.iloc[0]
        try:
            answered = Resolved.model_validate_json(row["options"])
        except ValidationError:
            return True
        if row["environment"] != settings.environment:
            return True
        if answered.decided_under(load(settings.environment), settings):
            return False
        request, family = parse(landing.options, landing.name), registry.family(landing.family)
        landed = partial(instance_of, landing, self.dispatcher.artifacts)
        try:
            route = decide(key, family, int(row["size"]), landed, request, settings, self.dispatcher, self.lake)
        except NoRoute:
            # the run will say why
            return True
        return answered.differs(resolve(request, settings, route))

    def process(self, key: str, stages: list[str] | None = None, continues: bool = False) -> Outcome:
        """Run stages of one instance in this process.

        Args:
            continues: only go on with what the jobs have become; a failed one is not sent again.
        """
        tags = {"hybrid/asked_by": "cli"} | ({CONTINUES: "yes"} if continues else {})
        return run_line(self.repository.get_job("instance_line"), self.instance, key, stages or LINE, tags, LOGGING)

    def finish(self, keys: list[str]) -> Iterator[tuple[str, Outcome, float]]:
        """Wait for the jobs of pending instances and take each through its remaining stages; yields key, outcome and
        the seconds since the waiting began. What waits for a person stays pending."""
        began, waiting = time.perf_counter(), list(keys)
        while waiting:
            self.dispatcher.reconcile()
            for key in list(waiting):
                person = self.waits_for(key)
                if not person and any(job.state not in TERMINAL for job in self.dispatcher.ledger.jobs(instance=key)):
                    continue
                self.progress("title", key)
                # nothing is stale where a sensor's run was faster
                stale = [] if person else self.stale(key)
                outcome = self.process(key, stale, continues=True) if stale else Outcome("", pending=bool(person))
                if person or not outcome.pending:
                    waiting.remove(key)
                    yield key, outcome, time.perf_counter() - began
            if waiting:
                time.sleep(0.2)

    def waits_for(self, key: str) -> str | None:
        """What a person has to do before an instance's job goes on: answer, or end a pause."""
        asked = {approval.job_id: approval.why for approval in self.dispatcher.approvals.waiting()}
        paused = {c.backend: c for c in self.dispatcher.controls.all() if c.mode is Mode.PAUSED}
        for job in self.dispatcher.ledger.jobs(instance=key):
            if job.state == "awaiting_approval" and job.job_id in asked:
                return f"job {job.job_id} waits for `hybrid approve` or `hybrid reject`: {asked[job.job_id]}"
            if job.state == "intended" and (control := paused.get(job.backend)):
                return (
                    f"job {job.job_id} waits for `hybrid backend {job.backend} open`: "
                    f"paused by {control.set_by}, {control.reason}"
                )
        return None

    def publish(self) -> str | None:
        """Stage 10; one sentence about what failed, or ``None``."""
        # dbt's own lines would mix with what the command prints; Dagster's log keeps them
        with redirect_stdout(io.StringIO()):
            result = self.repository.get_job("publication").execute_in_process(
                instance=self.instance, raise_on_error=False, run_config=LOGGING, tags=here()
            )
        if result.success:
            return None
        for event in result.all_events:
            if event.is_step_failure:
                return f"{event.step_key}: {problem_of(event.step_failure_data)[0]}"
        return "the publication failed before any step"

    def must_publish(self) -> bool:
        """Whether the lake has moved on since the published warehouse was built."""
        from resources.warehouse import published_versions

        versions = self.lake.versions()
        published = published_versions(self.home.warehouse)
        staged = {t: v for t, v in versions.items() if not t.startswith("control_")}
        return {t: v for t, v in published.items() if t in staged} != staged or not self.home.report.exists()


@contextmanager
def open_session(progress: Progress = quiet, home: Home | None = None) -> Iterator[Session]:
    """A session on the current home; sets DAGSTER_HOME for this process.

    Raises:
        InputError: the home cannot be written.
    """
    home = (home or Home.from_environment()).prepare()
    configured = home.dagster / "dagster.yaml"
    wanted = (PROJECT / "dagster.yaml").read_text(encoding="utf-8") + storage_yaml(home.dagster)
    if not configured.exists() or configured.read_text(encoding="utf-8") != wanted:
        configured.write_text(wanted, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home.dagster)
    # a pending stage has no result to check: one warning per check that was skipped says nothing more
    logging.getLogger("dagster._core.execution.plan.active").setLevel(logging.ERROR)
    with dg.DagsterInstance.get() as instance, own_emulator(home):
        bury_dead_runs(instance)
        yield Session(home, instance, progress)


@contextmanager
def own_emulator(home: Home, quietly: bool = True) -> Iterator[bool]:
    """In staging, a provider emulator as a child of this process where nothing listens at its usual place.

    Nothing but ``HYBRID_ENV`` has to be set to see the asynchronous path; ``make emulator`` or
    ``HYBRID_EMULATOR_URL`` give it a life of its own.
    """
    from resources.emulator.running import PORT, serve_in_background

    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", PORT)) == 0
    if current_environment() != "staging" or "HYBRID_EMULATOR_URL" in os.environ or taken:
        yield False
        return
    try:
        running = serve_in_background(home.root / "emulator", port=PORT)
    except HybridError as error:
        # somebody else was faster, or it cannot run here: the policy's next backend answers, and says why
        logging.getLogger(__name__).warning("no emulator of our own: %s", error)
        yield False
        return
    if not quietly:
        print(f"provider emulator: {running.url}", file=sys.stderr)
    with running:
        yield True


def _progress_logger(progress: Progress) -> dg.LoggerDefinition:
    """A Dagster logger that turns step starts and ends into progress, and prints nothing else."""

    class Handler(logging.Handler):
        def __init__(self) -> None:
            super().__init__(logging.DEBUG)
            self.started: dict[str, float] = {}

        def emit(self, record: logging.LogRecord) -> None:
            event = (getattr(record, "dagster_meta", None) or {}).get("dagster_event")
            if event is None:
                meta = getattr(record, "dagster_meta", None) or {}
                # what a stage says of itself, not what Dagster and dbt say about steps
                said = str(meta.get("orig_message", record.msg))
                if (
                    record.levelno == logging.INFO
                    and meta.get("step_key") in LINE
                    and not said.startswith(DAGSTER_SAYS)
                ):
                    progress("note", said)
                return
            if event.event_type_value == "STEP_START":
                self.started[event.step_key] = time.perf_counter()
                progress("start", event.step_key)
            elif event.event_type_value == "STEP_SUCCESS":
                seconds = time.perf_counter() - self.started.get(event.step_key, time.perf_counter())
                progress("done", f"{event.step_key} {seconds:.2f}")

    @dg.logger(config_schema=None, description="Steps as progress on the terminal")
    def console(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("hybrid.progress", logging.DEBUG)
        logger.addHandler(Handler())
        return logger

    return console
