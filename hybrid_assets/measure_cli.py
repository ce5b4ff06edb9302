"""``hybrid measure``: expectation values or overlaps of circuits, on whatever backend the policy gives.

Here: arguments, waiting and printing. Not here: the steps (``measuring``).
"""

from __future__ import annotations

import json
import time
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hybrid_assets.terminal import err, say, show
from resources.environments import SETTINGS, current_environment
from resources.failures import InputError
from resources.home import Home

if TYPE_CHECKING:
    from resources.dispatcher import Dispatcher
    from resources.envelope import JobEnvelope, JobResult

#: Columns of values that are printed.
SHOWN = 12

#: Keys of a request that say nothing about a program of circuits.
OF_INSTANCES = frozenset(
    {"algorithm", "depth", "encoding", "symmetry", "trips", "polish", "constraints", "best_known", "best_known_source"}
)


def measure(
    file: Annotated[Path, typer.Argument(help="a program of Pauli rotations, JSON")],
    backend: Annotated[str | None, typer.Option(help="as in `hybrid solve`")] = None,
    tier: Annotated[str | None, typer.Option(help="cpu, gpu, simulator, emulator or hardware")] = None,
    shots: Annotated[int | None, typer.Option(help="read-outs of each circuit")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of everything random")] = None,
    budget: Annotated[float | None, typer.Option(help="seconds of execution")] = None,
    readout: Annotated[bool, typer.Option("--readout", help="correct for read-out errors")] = False,
    json_: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False,
) -> None:
    """Expectation values of a program's observables, or the overlaps of its states where it has none."""
    from hybrid_assets.measuring import envelope_for, key_of, read_program
    from hybrid_assets.request import parse, read_sidecar, resolve
    from hybrid_assets.routes import decide_program
    from hybrid_assets.session import own_emulator
    from resources.assembly import build_dispatcher

    program, reading = read_program(file)
    asked = {"backend": backend, "tier": tier, "shots": shots, "seed": seed, "budget": budget}
    given = {name: value for name, value in asked.items() if value is not None}
    beside = read_sidecar(file).stored()
    if foreign := sorted(OF_INSTANCES & beside.keys()):
        fix = "leave it out, or put it beside a data file"
        raise InputError(f"the request of {file.name}", foreign[0], "it says nothing about a program of circuits", fix)
    request = parse(beside | given | ({"mitigation": {"readout": True}} if readout else {}), "request")
    home, settings = Home.from_environment().prepare(), SETTINGS[current_environment()]
    with own_emulator(home):
        work, key = build_dispatcher(home), key_of(file)
        route = decide_program(key, program, reading, request, settings, work)
        resolved = resolve(request, settings, route)
        reference = work.artifacts.put(program.to_bytes())
        envelope = envelope_for(key, program, reading, resolved, reference, settings.environment)
        result = _waited(work, envelope)
    if result is None:
        raise typer.Exit(1)
    job = work.ledger.job(work.job_id(envelope))
    if json_:
        print(json.dumps({"job": job.job_id, "kind": reading.kind, **result.model_dump(mode="json")}, allow_nan=False))
        return
    _shown(result, reading.kind)
    before = takewhile(lambda line: not line.startswith(f"backend {route.backend}: taken"), route.explanation)
    for line in (line for line in before if line.startswith("backend ")):
        say(line)
    for hop in result.fallback_path:
        say(f"left {hop.backend}: {hop.reason}")
    cost = f", {result.actual_cost:.4g} of cost" if result.actual_cost else ""
    say(
        f"{job.job_id}: {result.evidence_class}, {result.backend} {result.backend_version}, {result.post_processing}"
        f"{', cached' if result.cached else ''}; {result.circuits} circuits, {result.shots} shots{cost}"
        f"{'; noise-dominated' if result.noise_dominated else ''}"
    )


def _waited(work: Dispatcher, envelope: JobEnvelope) -> JobResult | None:
    """The result, or ``None`` with a sentence on stderr where a person has to act first or time is up."""
    until = time.monotonic() + envelope.timeout.total
    result = work.run(envelope)
    while result is None:
        job = work.ledger.job(work.job_id(envelope))
        if job.state == "awaiting_approval" or time.monotonic() > until:
            first = "`hybrid jobs --waiting` says why; once approved, " if job.state == "awaiting_approval" else ""
            said = f"{job.job_id} on {job.backend} is {job.state}; {first}run the same command again to collect it."
            err.print(said)
            return None
        time.sleep(0.2)
        work.reconcile()
        result = work.result(envelope)
    return result


def _shown(result: JobResult, kind: str) -> None:
    from hybrid_assets.measuring import with_errors

    columns = len(result.values[0])
    heads = [f"observable {k}" if kind == "estimate" else f"row {k}" for k in range(min(columns, SHOWN))]
    table = Table("row", *heads, *(["…"] if columns > SHOWN else []))
    for number, (values, errors) in enumerate(zip(result.values, result.standard_errors, strict=True)):
        cells = with_errors(values[:SHOWN], errors[:SHOWN])
        table.add_row(str(number), *cells, *(["…"] if columns > SHOWN else []))
    show(table)
