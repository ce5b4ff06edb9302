"""Commands that only look: ``hybrid route`` says where a file would go and why, ``hybrid doctor`` what there is.

Here: arguments and printing. Not here: the rules (``resources.policy``) and the choice (``resources.routing``).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hybrid_assets.terminal import err, say, show
from resources.environments import SETTINGS, current_environment
from resources.failures import HybridError, InputError
from resources.home import Home, inbox

if TYPE_CHECKING:
    from hybrid_assets.routes import Load
    from resources.backends.base import Estimate
    from resources.policy import Policy

#: Packages that an answer may depend on.
PACKAGES = (
    "dagster",
    "dbt-duckdb",
    "duckdb",
    "deltalake",
    "dimod",
    "qiskit",
    "qiskit-aer",
    "pennylane",
    "dwave-samplers",
    "ortools",
    "pyscipopt",
    "qiskit-ibm-runtime",
    "amazon-braket-sdk",
    "dwave-system",
    "dagster-ray",
    "psycopg2-binary",
)


def route(
    file: Annotated[str, typer.Argument(help="a data file; FILE#3 is the third instance in it")],
    family: Annotated[str | None, typer.Option(help="problem family, where the content is ambiguous")] = None,
    backend: Annotated[str | None, typer.Option(help="as in `hybrid solve`")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="every rule and backend that was considered")] = False,
    json_: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False,
) -> None:
    """Where this environment's policy would send a file; nothing is stored or sent."""
    from hybrid_assets import contracts, registry
    from hybrid_assets.landing import Address, check_file, key_of
    from hybrid_assets.request import parse, read_sidecar
    from hybrid_assets.routes import decide, on_a_device
    from resources.assembly import build_dispatcher, build_lake
    from resources.routing import NoRoute

    address = Address.parse(file)
    asked = {**read_sidecar(address.path).stored(), **({"backend": backend} if backend else {})}
    request = parse(asked, "the request")
    name, source, instance = check_file(address, family, request)
    home = Home.from_environment()
    lake = build_lake(home, tuple((t, contracts.arrow_schema(t)) for t in contracts.TABLES))
    settings = SETTINGS[current_environment()]
    key = key_of(name, source, address.member)
    try:
        family_, dispatcher = registry.family(name), build_dispatcher(home)
        found = decide(key, family_, instance.size, lambda: instance, request, settings, dispatcher, lake)
    except NoRoute as error:
        for line in error.explanation if explain else ():
            err.print(f"  {line}", soft_wrap=True)
        raise
    if json_:
        load, estimate = on_a_device(found, key, family_, instance, request, settings, dispatcher)
        expected = {"jobs": load.jobs, "shots": load.shots, "estimate": estimate and asdict(estimate)}
        answer = {"instance": key, "environment": settings.environment, **asdict(found), "expected": expected}
        print(json.dumps(answer, allow_nan=False))
        return
    say(f"{key} ({instance.size} variables) in {settings.environment}: {found.backend} (tier {found.tier})")
    say(f"then {' → '.join(found.fallback) or 'nothing'}")
    say(
        f"at most {found.max_qubits} qubits, {request.budget or found.budget_seconds:g} s a side, "
        f"{found.queue_seconds:g} s in a queue"
        + (f", {found.cost_ceiling:g} of cost" if found.cost_ceiling is not None else "")
    )
    say(f"policy {found.policy_version}, route {found.name}")
    for line in found.explanation if explain else ():
        say(f"  {line}")
    if explain:
        load, estimate = on_a_device(found, key, family_, instance, request, settings, dispatcher)
        say(f"  {expectation(load, estimate)}")


def expectation(load: Load, estimate: Estimate | None) -> str:
    """What is sent at most, and what a job would be and take on a device, in a sentence."""
    words = [f"at most {load.jobs} {'job' if load.jobs == 1 else 'jobs'} of {load.shots} shots"]
    if estimate is not None and estimate.depth:
        words.append(
            f"a circuit of up to {estimate.logical_two_qubit_gates} two-qubit gates and depth "
            f"{estimate.logical_depth}, on {estimate.coupling_map} {estimate.two_qubit_gates} and {estimate.depth}"
        )
    if estimate is not None and estimate.device_seconds is not None:
        cost = f" and {estimate.device_cost:.2f} ({estimate.priced_as})" if estimate.device_cost is not None else ""
        words.append(f"on a device a job would take about {estimate.device_seconds:.2g} s{cost}")
    return "estimate: " + "; ".join(words)


def doctor() -> None:
    """What is installed, which backends answer, which environment and policy are set."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from resources.policy import load
    from resources.warehouse import MANIFEST

    home, environment = Home.from_environment(), current_environment()
    say(f"environment {environment}, home {home.root}, inbox {inbox()}, Python {platform.python_version()}")
    policy = None
    try:
        policy = load(environment)
        say(f"policy {policy.version}: routes {', '.join(rule.name for rule in policy.routes)}")
    except InputError as error:
        say(f"policy: {error}")
    try:
        home.prepare()
        say("home: writable")
    except InputError as error:
        say(str(error))
    say(f"dbt manifest: {'present' if MANIFEST.exists() else 'missing, run sh setup.sh'}")
    if policy is not None:
        _backends(home, policy)
    packages = Table("package", "version")
    for name in PACKAGES:
        try:
            packages.add_row(name, version(name))
        except PackageNotFoundError:
            packages.add_row(name, "not installed (optional)")
    show(packages)


def _backends(home: Home, policy: Policy) -> None:
    """All backends in a table, then a sentence for each that cannot be used."""
    from resources.assembly import build_dispatcher

    table = Table("backend", "state", "tier", "breaker", "mode", "evidence class", "variables", "algorithms", "version")
    dispatcher = build_dispatcher(home)
    breakers = {state.backend: state for state in dispatcher.breakers.states()}
    modes = {control.backend: control for control in dispatcher.controls.all()}
    sentences = []
    for name in dispatcher.backend_names:
        breaker, control = breakers.get(name), modes.get(name)
        mode = "killed by the policy" if name in policy.killed else str(control.mode) if control else "open"
        standing = (breaker.state if breaker else "closed", mode)
        try:
            backend = dispatcher.backend(name)
            can, missing = backend.capabilities(), backend.available()
            table.add_row(
                name,
                "not usable" if missing else "answers",
                can.tier + (", remote" if can.remote else ""),
                *standing,
                str(can.evidence_class),
                str(can.max_variables),
                ", ".join(can.algorithms),
                "" if missing else backend.version(),
            )
        except HybridError as error:
            missing = str(error)
            table.add_row(name, "not usable", "", *standing)
        except Exception as error:
            # one broken plug-in must not hide the others
            missing = f"it is broken ({type(error).__name__})"
            table.add_row(name, "broken", "", *standing)
        sentences += [missing] if missing else []
        if control is not None and control.mode != "open":
            sentences.append(f"{name} was {control.mode} by {control.set_by}: {control.reason}")
        refusal = breaker.refuses(datetime.now(UTC)) if breaker else None
        sentences += [refusal] if refusal else []
    show(table)
    for sentence in sentences:
        say(f"  {sentence}")
