"""The ``hybrid`` command: run, solve, leaderboard, publish, retire, ui.

Here: arguments, printing, exit codes. Not here: the work (``session``), the commands that only look (``route_cli``),
those about jobs (``control_cli``).
Exit codes: 0 answered, 2 bad input, 3 no feasible answer (none found, or none exists), 1 anything else. Only
``--json`` documents and tables go to stdout; progress goes to stderr.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hybrid_assets import control_cli, measure_cli, route_cli
from hybrid_assets.terminal import Steps, err, show_answer, show_leaderboard
from resources.failures import HybridError, InfeasibleError, InputError
from resources.home import PROJECT, Home, inbox

if TYPE_CHECKING:
    from hybrid_assets.line import Outcome
    from hybrid_assets.problems.base import Instance
    from hybrid_assets.session import Session

app = typer.Typer(
    help="Quantum processors inside ordinary data engineering, with the classical answer beside.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(route_cli.route)
app.command()(route_cli.doctor)
app.command()(measure_cli.measure)
control_cli.register(app)

BAD_INPUT, NO_ANSWER, INTERRUPTED = 2, 3, 130
#: What the state's folder, not the program, is to blame for.
REFUSED_BY_DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Run the command; errors of ours become one sentence and an exit code."""
    try:
        app()
    except InfeasibleError as error:
        _end(str(error), NO_ANSWER)
    except InputError as error:
        _end(str(error), BAD_INPUT)
    except HybridError as error:
        _end(str(error), 1)
    except OSError as error:
        if error.errno not in REFUSED_BY_DISK:
            raise
        problem = f"it cannot be used ({(error.strerror or 'unknown error').lower()})"
        _end(f"{error.filename or Home.from_environment().root}: {problem}; check permissions and free space.", 1)
    except SystemExit as end:
        # typer turns Ctrl-C into this code, without a word
        if end.code == INTERRUPTED:
            _end("interrupted; run the same command again to continue where it stopped.", INTERRUPTED)
        raise


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)


@app.command()
def run() -> None:
    """Take everything in the inbox through all ten stages; what is up to date is not computed again."""
    from hybrid_assets.session import open_session

    began = time.perf_counter()
    steps = Steps()
    failed: dict[str, Outcome] = {}
    with open_session(steps) as session:
        landings, refused = session.land_inbox()
        for sentence in refused:
            err.print(f"refused: {sentence}", style="red")
        if not landings:
            err.print(f"there is no data file under {inbox()}; put one into a family's folder there.")
        fresh = computed = 0
        pending: list[str] = []
        for number, landing in enumerate(landings, start=1):
            key = landing.instance
            stale = session.stale(key)
            if not stale:
                fresh += 1
                continue
            computed += 1
            steps.title = f"[{number}/{len(landings)}] {key}"
            started = time.perf_counter()
            outcome = session.process(key, stale)
            _said(steps.title, outcome, time.perf_counter() - started)
            if outcome.problem:
                failed[key] = outcome
            elif outcome.pending:
                pending.append(key)
        if pending:
            err.print(f"jobs of {len(pending)} instances are out; waiting for them", style="dim")
        for key, outcome, seconds in session.finish(pending):
            _said(key, outcome, seconds, session.waits_for(key) if outcome.pending else None)
            if outcome.problem:
                failed[key] = outcome
        computed -= len(failed)
        broken = f", {len(failed)} failed" if failed else ""
        err.print(f"{computed} of {len(landings)} instances computed{broken}, {fresh} up to date and left alone.")
        steps.title = "publication"
        _publish_if_needed(session, changed=computed > 0)
        show_leaderboard(session)
        without = session.unanswered([landing.instance for landing in landings if landing.instance not in failed])
    for key, reason in without.items():
        err.print(f"no feasible answer: {key}: {reason}", style="red", soft_wrap=True)
    home = session.home
    err.print(
        f"\nDuckDB file:  {home.warehouse}\nreport:       {home.report}\n"
        f"Dagster UI:   make ui, then http://127.0.0.1:3000\ntotal:        {time.perf_counter() - began:.0f} s"
    )
    if any(not outcome.infeasible for outcome in failed.values()):
        sys.exit(1)
    if refused:
        sys.exit(BAD_INPUT)
    if failed or without:
        sys.exit(NO_ANSWER)


def _said(title: str, outcome: Outcome, seconds: float, waits_for: str | None = None) -> None:
    state = f"failed: {outcome.problem}" if outcome.problem else "pending" if outcome.pending else "done"
    text = f"{title}: {waits_for}" if waits_for else f"{title}: {state} in {seconds:.1f} s"
    err.print(text, style="red" if outcome.problem else "yellow" if waits_for else "green", soft_wrap=True)


def _publish_if_needed(session: Session, changed: bool) -> None:
    if not changed and not session.must_publish():
        err.print("the published warehouse is up to date and left alone.")
        return
    started = time.perf_counter()
    problem = session.publish()
    if problem:
        _end(f"the warehouse was not published, the old one is as it was: {problem}", 1)
    err.print(f"published in {time.perf_counter() - started:.1f} s", style="green")


@app.command()
def publish() -> None:
    """Build the marts from the lake and swap the warehouse and the report in."""
    from hybrid_assets.session import open_session

    steps = Steps()
    steps.title = "publication"
    with open_session(steps) as session:
        _publish_if_needed(session, changed=True)


@app.command()
def solve(
    file: Annotated[str, typer.Argument(help="a data file; FILE#3 is the third instance in it")],
    family: Annotated[str | None, typer.Option(help="problem family, where the content is ambiguous")] = None,
    backend: Annotated[str | None, typer.Option(help="aer, lightning, annealer …")] = None,
    encoding: Annotated[str | None, typer.Option(help="how it becomes a QUBO: penalty, domain-wall …")] = None,
    shots: Annotated[int | None, typer.Option(help="shots of the final circuit")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of everything random")] = None,
    budget: Annotated[float | None, typer.Option(help="seconds for the quantum side, and for each baseline")] = None,
    trips: Annotated[int | None, typer.Option(help="jobs at most, where it is larger than the device")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a family's option")] = None,
    json_: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False,
) -> None:
    """Take one file through the whole line and print the decision."""
    from hybrid_assets.landing import Address
    from hybrid_assets.request import parse, read_sidecar
    from hybrid_assets.session import open_session

    address = Address.parse(file)
    beside = read_sidecar(address.path).stored()
    constraints = {**beside.pop("constraints", {}), **dict(_pair(text) for text in set_ or [])}
    asked = {
        "backend": backend,
        "encoding": encoding,
        "shots": shots,
        "seed": seed,
        "budget": budget,
        "trips": trips,
    }
    request = parse(
        {**beside, **{k: v for k, v in asked.items() if v is not None}, "constraints": constraints}, "the request"
    )
    if family is not None:
        from hybrid_assets import registry

        registry.family(family)
    steps = Steps()
    with open_session(steps) as session:
        landing = session.land_file(address, family, request)
        steps.title = landing.instance
        outcome = session.process(landing.instance)
        if outcome.pending:
            err.print(f"{landing.instance}: its job is out; waiting for it", style="dim")
            outcome = next(iter(session.finish([landing.instance])))[1]
        if outcome.problem:
            code = NO_ANSWER if outcome.infeasible else BAD_INPUT if outcome.failure_class == "input" else 1
            _end(f"{landing.instance}: {outcome.problem}", code)
        if outcome.pending:
            why = session.waits_for(landing.instance) or "its job is still open"
            _end(f"{landing.instance}: {why}; run the same command again to collect it.", 1)
        document = answer(session, landing.instance)
    if json_:
        print(json.dumps(document, allow_nan=False))
    else:
        show_answer(document)
    if not document["feasible"]:
        sys.exit(NO_ANSWER)


def _pair(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with VALUE read as YAML.

    Raises:
        InputError: no ``=`` in it.
    """
    import yaml

    key, mark, value = text.partition("=")
    if not mark or not key.strip():
        raise InputError("--set", text, "it is not KEY=VALUE", "write for example --set cardinality=10")
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise InputError("--set", text, "the value cannot be read", "write a number or a word") from None


def _told(instance: Instance, values: str | None) -> list[str]:
    """A stored solution in words."""
    import numpy as np

    from hybrid_assets import registry

    return registry.family(instance.family).told(instance, np.array(json.loads(values))) if values else []


def answer(session: Session, key: str) -> dict[str, Any]:
    """The decision about an instance as one JSON-able document."""
    from hybrid_assets.problems.base import Instance

    def row(table: str) -> dict[str, Any]:
        found = session.lake.read(table, [key]).iloc[0].to_dict()
        return {str(k): None if isinstance(v, float) and v != v else v for k, v in found.items()}

    inputs, compared, decided = row("normalized_inputs"), row("baseline_comparisons"), row("decisions")
    instance = Instance.from_bytes(session.dispatcher.artifacts.get(inputs["payload_ref"]))
    return {
        "instance": key,
        "family": decided["family"],
        "n": int(inputs["size"]),
        "objective": decided["objective"],
        "sense": decided["sense"],
        "feasible": bool(decided["feasible"]),
        "solution": json.loads(decided["values"]) if decided["values"] else None,
        "labels": list(instance.labels) or None,
        "told": _told(instance, decided["values"]),
        "evidence_class": decided["evidence_class"],
        "post_processing": decided["post_processing"],
        "source": decided["source"],
        "backend": decided["solver_or_backend"],
        "confidence": decided["confidence"],
        "confidence_interval": [decided["confidence_low"], decided["confidence_high"]],
        "best_quantum": compared["best_quantum"],
        "quantum_backend": compared["quantum_backend"],
        "quantum_evidence_class": compared["quantum_evidence_class"],
        "best_surrogate": compared["best_surrogate"],
        "best_random": compared["best_random"],
        "best_classical": compared["best_classical"],
        "best_classical_solver": compared["best_classical_solver"],
        "best_known": compared["best_known"],
        "bound": decided["bound"],
        "gap": decided["gap"],
        "decision": decided["decision"],
        "reason": decided["reason"],
        "seconds": json.loads(decided["seconds_by_phase"]),
        "budget": float(compared["budget_seconds"]),
        "environment": decided["environment"],
        "correlation_id": decided["correlation_id"],
    }


@app.command()
def leaderboard() -> None:
    """Who won on every instance, from the published warehouse."""
    from hybrid_assets.session import open_session

    with open_session() as session:
        show_leaderboard(session)


@app.command()
def retire(instance: Annotated[str, typer.Argument(help="key, e.g. maxcut.karate-club")]) -> None:
    """Take an instance out of the line; its history stays in the lake and the event log."""
    from hybrid_assets.session import open_session

    with open_session() as session:
        session.retire(instance)
    err.print(f"{instance} is retired; its history stays.")


@app.command()
def ui(port: Annotated[int, typer.Option(help="port on 127.0.0.1")] = 3000) -> None:
    """Dagster's UI and daemon on the same state."""
    from hybrid_assets.session import open_session, own_emulator

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(
                "--port", str(port), "another program listens on this port", f"stop it, or use make ui PORT={port + 1}"
            ) from None
    with open_session():
        pass
    err.print(f"Dagster: http://127.0.0.1:{port} (Ctrl-C ends it)")
    dagster = str(Path(sys.executable).with_name("dagster"))
    os.chdir(PROJECT)
    # a shell has what it starts in the background ignore Ctrl-C, and Dagster would then ignore SIGTERM as well
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [dagster, "dev", "-w", str(PROJECT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    with own_emulator(Home.from_environment(), quietly=False) as started:
        if not started:
            os.execv(dagster, command)
        # the emulator ends with this process, so this one stays
        with subprocess.Popen(command) as dev:
            signal.signal(signal.SIGTERM, lambda *_: dev.terminate())
            while dev.poll() is None:
                # Ctrl-C reaches the whole group; Dagster ends in its own time
                with suppress(KeyboardInterrupt):
                    dev.wait()


if __name__ == "__main__":
    main()
