"""Where an instance goes: what is known about the backends, gathered for ``resources.routing``.

Here: the request as routing sees it, and the facts: availability, kill switches, breakers, prices, the record against
classical solvers. Nothing here asks a provider. Not here: the rules (the environment's policy file) or the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.proposals.prepared import fits
from hybrid_assets.proposals.trips import Plan, nature_of
from hybrid_assets.request import Request
from resources import money
from resources.backends.base import Capabilities, Estimate, QuantumBackend
from resources.backends.device_time import unasked
from resources.circuits.pauli import PauliProgram, Reading
from resources.controls import Mode
from resources.device_price import priced
from resources.envelope import PAULI, Algorithm, EvidenceClass, JobEnvelope, TimeoutBudget
from resources.environments import Settings
from resources.failures import BackendError, HybridError
from resources.policy import Policy, load
from resources.routing import Asked, Facts, Route, Shown, route

if TYPE_CHECKING:
    from resources.dispatcher import Dispatcher
    from resources.lake import Lake

#: What the policy's rules call programs.
CIRCUITS = "circuits"


def decide(
    key: str,
    family: ProblemFamily,
    size: int,
    instance: Callable[[], Instance],
    request: Request,
    settings: Settings,
    dispatcher: Dispatcher,
    lake: Lake | None,
) -> Route:
    """The route of an instance under its environment's policy.

    Args:
        key: its partition key. ``size``: its decision variables.
        instance: the instance itself, asked for where a job costs money.
        lake: where the record against classical solvers is read, if a rule asks for it; ``None``: there is none yet.

    Raises:
        NoRoute: none can take it, with one sentence per backend.
        InputError: the policy file is wrong.
    """
    policy = load(settings.environment)
    asked = asked_of(key, family.name, size, request, settings)
    asked = replace(asked, algorithm=request.algorithm)

    def load_of(can: Capabilities, max_qubits: int, shots: int) -> Load:
        return most_sent(family, instance, can, max_qubits, shots, request, settings)

    return route(policy, asked, facts_of(policy, asked, settings, request, dispatcher, lake, load_of))


def decide_program(
    key: str, program: PauliProgram, reading: Reading, request: Request, settings: Settings, dispatcher: Dispatcher
) -> Route:
    """The route of a program, an estimate or kernel job of the family ``circuits``. Raises as ``decide``."""
    policy = load(settings.environment)
    asked = asked_of(key, CIRCUITS, program.qubits, request, settings)
    asked = replace(asked, kind=reading.kind, program=reading.size)
    facts = facts_of(policy, asked, settings, request, dispatcher, None, lambda can, qubits, shots: Load(1, shots))
    return route(policy, asked, facts)


def asked_of(key: str, family: str, size: int, request: Request, settings: Settings) -> Asked:
    """The request as routing sees it, for one job."""
    hours = None
    if request.deadline is not None:
        until = datetime.combine(request.deadline, time.max, UTC) - datetime.now(UTC)
        hours = until.total_seconds() / 3600
    return Asked(
        instance=key,
        family=family,
        size=size,
        owner=request.owner or settings.owner,
        sensitivity=request.sensitivity or settings.sensitivity,
        impact=request.impact or "routine",
        hours_left=hours,
        backend=request.backend,
        tier=request.tier,
        cost_ceiling=request.cost_ceiling,
    )


@dataclass(frozen=True)
class Load:
    """What an instance sends to a backend: ``jobs`` at most, of ``shots`` each."""

    jobs: int
    shots: int


def most_sent(
    family: ProblemFamily,
    instance: Callable[[], Instance],
    can: Capabilities,
    max_qubits: int,
    shots: int,
    request: Request,
    settings: Settings,
) -> Load:
    """What an instance sends to a backend at most: its rounds, or its trips where it is larger than the device."""
    limit = qubits_of(can, max_qubits)
    seed = request.seed if request.seed is not None else settings.algorithm.seed
    try:
        plan = planned(
            family, instance(), limit, can, shots, request.trips or settings.trips, True, seed, request.encoding
        )
    except HybridError:
        # what is wrong with it stage 3 says, where it is encoded
        plan = None
    return Load(plan.trips, plan.shots) if plan else Load(jobs_of(family, settings.repetitions), shots)


def qubits_of(can: Capabilities, max_qubits: int) -> int:
    """The most variables that a payload for a backend may have, under a route's limit for circuits."""
    circuits = any(name.startswith("qaoa") for name in can.algorithms)
    return min(max_qubits, can.max_variables) if circuits else can.max_variables


def planned(
    family: ProblemFamily,
    instance: Instance,
    limit: int,
    can: Capabilities | None,
    shots: int,
    trips: int,
    polish: bool,
    seed: int,
    encoding: str | None,
) -> Plan | None:
    """How an instance that is larger than its device is walked; ``None`` when it fits, or is narrowed once instead.

    Args:
        limit: variables of a payload at most.
        can: of the backend; ``None``: nothing is known about it.

    Raises:
        HybridError: it cannot be modelled or encoded.
    """
    landscape = family.landscape(instance)
    if landscape is None or fits(family, instance, limit, encoding):
        return None
    parts, by_trip = (can.parts, can.remote) if can else (1, False)
    plan = Plan.of(limit, parts, by_trip, shots, trips, polish, seed, **nature_of(landscape, seed))
    return replace(plan, encoding=encoding)


def jobs_of(family: ProblemFamily, repetitions: int) -> int:
    """How many jobs an instance that fits its device sends at most; they share its budget."""
    return family.rounds * (repetitions if family.rounds > 1 else 1)


def facts_of(
    policy: Policy,
    asked: Asked,
    settings: Settings,
    request: Request,
    dispatcher: Dispatcher,
    lake: Lake | None,
    load_of: Callable[[Capabilities, int, int], Load],
) -> dict[str, Facts]:
    """What is known about each backend that the policy or the request may choose.

    Args:
        load_of: what is sent to one, from its capabilities, a route's limit in qubits and the shots that are asked.
    """
    thens = [*(rule.then for rule in policy.routes), *(feature.then for feature in policy.features)]
    by_tier = asked.tier is not None or any(then.tier for then in thens)
    named = {name for then in thens for name in (*then.backends, *then.fallback)} | {asked.backend}
    judged = any(rule.when.quality for rule in policy.routes)
    shown = history(lake, asked.family) if lake is not None and judged else {}
    set_by_people = {control.backend: control for control in dispatcher.controls.all()}
    now = datetime.now(UTC)
    breakers = {state.backend: state.refuses(now) for state in dispatcher.breakers.states()}
    found = {}
    for name in dispatcher.backend_names:
        if not by_tier and name not in named:
            continue
        control = set_by_people.get(name)
        said = f"it was {control.mode} by {control.set_by} ({control.reason})" if control else None
        mode = control.mode if control else Mode.OPEN
        try:
            backend = dispatcher.backend(name)
            can = backend.capabilities()
            ways = [then for then in thens if then.tier or name in (*then.backends, *then.fallback)]
            shots = min(request.shots or then.shots or settings.algorithm.shots for then in ways or thens)
            load = Load(1, shots)
            if can.metered:
                # the others cost nothing, however many jobs there are
                load = load_of(can, max(then.max_qubits for then in ways or thens), shots)
            found[name] = Facts(
                can,
                missing=backend.available(),
                killed=said if mode is Mode.KILLED else None,
                resting=said if mode in (Mode.PAUSED, Mode.DRAINED) else breakers.get(name),
                estimate=_estimate(policy, backend, asked, settings, request, by_tier, load.shots),
                jobs=load.jobs,
                shown=shown.get(name, Shown()),
            )
        except HybridError as error:
            # its package is broken or one of its variables is wrong: that concerns nobody else
            found[name] = Facts(Capabilities(EvidenceClass.CLASSICAL, 0, ()), missing=str(error))
    return found


def _estimate(
    policy: Policy,
    backend: QuantumBackend,
    asked: Asked,
    settings: Settings,
    request: Request,
    by_tier: bool,
    shots: int,
) -> Estimate | None:
    """One job's least price by the price list; of what runs here also its seconds, where backends are compared.

    What a provider has to be asked (its queue, its seconds) is asked when a job is about to be sent; of a device's
    seconds only those are counted that any job of so many shots takes.

    Args:
        shots: of a job, or of each circuit of a program.
    """
    can, name = backend.capabilities(), backend.name
    cost = 0.0
    if can.metered:
        seconds = (
            unasked(can, 1, 0, shots * asked.program.circuits).execution_seconds if can.tier == "hardware" else 0.0
        )
        cost = money.price(policy, name, shots=shots * asked.program.circuits, seconds=seconds)
    if can.remote or not by_tier:
        return Estimate(0.0, 0.0, cost) if can.metered else None
    if asked.kind not in can.kinds:
        return None
    algorithm = settings.algorithm.model_copy(update={"shots": shots})
    estimate = _local_estimate(backend, asked, request, algorithm)
    return None if estimate is None else replace(estimate, cost=cost)


def _local_estimate(backend: QuantumBackend, asked: Asked, request: Request, algorithm: Algorithm) -> Estimate | None:
    """What a backend says about a job as large as the instance, or as it takes; ``None``: nothing."""
    can = backend.capabilities()
    n = max(1, min(asked.size, can.max_variables))
    name = can.algorithms[0] if asked.kind == "sample" else PAULI
    budget = request.budget or 60.0
    draft = JobEnvelope(
        correlation_id="",
        purpose="estimate",
        owner=asked.owner,
        problem_type=asked.family,
        instance=asked.instance,
        input_digest="",
        encoding="",
        encoding_digest="",
        payload_ref="",
        payload_variables=n,
        program=asked.program,
        kind=asked.kind,
        algorithm=algorithm.model_copy(update={"name": name}),
        backend=backend.name,
        expected_shape=(algorithm.shots, n),
        timeout=TimeoutBudget(queue=budget, execution=budget, total=2 * budget),
    )
    try:
        return backend.estimate(draft)
    except BackendError:
        return None


def on_a_device(
    found: Route,
    key: str,
    family: ProblemFamily,
    instance: Instance,
    request: Request,
    settings: Settings,
    dispatcher: Dispatcher,
) -> tuple[Load, Estimate | None]:
    """What a routed instance sends at most, and what one of these jobs would take and cost on a device; no provider is
    asked, so a remote backend's jobs are taken to run on a typical device of its kind."""
    backend = dispatcher.backend(found.backend)
    can, default = backend.capabilities(), settings.algorithm
    shots, depth = request.shots or found.shots or default.shots, request.depth or found.depth or default.depth
    load = most_sent(family, lambda: instance, can, found.max_qubits, shots, request, settings)
    n = min(instance.size, qubits_of(can, found.max_qubits))
    if can.remote:
        estimate: Estimate | None = unasked(can, n, depth, load.shots)
    else:
        asked = asked_of(key, family.name, n, request, settings)
        algorithm = default.model_copy(update={"depth": depth, "shots": load.shots})
        estimate = _local_estimate(backend, asked, request, algorithm)
    return load, None if estimate is None else priced(dispatcher, found.backend, can, estimate, load.shots)


def history(lake: Lake, family: str) -> dict[str, Shown]:
    """Each backend's record against classical solvers on a family, from all comparisons in the lake."""
    frame = lake.read("baseline_comparisons")
    frame = frame[(frame["family"] == family) & frame["quantum_backend"].notna()]
    found = {}
    for backend, rows in frame.groupby("quantum_backend"):
        won = rows["winner"].value_counts()
        gap = rows["quantum_gap"].median()
        found[str(backend)] = Shown(
            wins=int(won.get("quantum", 0)),
            ties=int(won.get("tie", 0)),
            losses=int(won.get("classical", 0)),
            median_gap=None if gap != gap else float(gap),
        )
    return found
