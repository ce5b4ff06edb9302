"""Where an instance goes: what is known about the backends, gathered for ``resources.routing``.

Here: the request as routing sees it, and the facts: availability, kill switches, breakers, prices, the record against
classical solvers. Nothing here asks a provider. Not here: the rules (the environment's policy file) or the choice.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from hybrid_assets.problems.base import ProblemFamily
from hybrid_assets.request import Request
from resources import money
from resources.backends.base import Capabilities, Estimate, QuantumBackend
from resources.circuits.pauli import PauliProgram, Reading
from resources.controls import Mode
from resources.envelope import PAULI, EvidenceClass, JobEnvelope, TimeoutBudget
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
    request: Request,
    settings: Settings,
    dispatcher: Dispatcher,
    lake: Lake | None,
) -> Route:
    """The route of an instance under its environment's policy.

    Args:
        key: its partition key. ``size``: its decision variables.
        lake: where the record against classical solvers is read, if a rule asks for it; ``None``: there is none yet.

    Raises:
        NoRoute: none can take it, with one sentence per backend.
        InputError: the policy file is wrong.
    """
    policy = load(settings.environment)
    asked = asked_of(key, family.name, size, request, settings)
    asked = replace(asked, jobs=_most_jobs(family, request, settings), algorithm=request.algorithm)
    return route(policy, asked, facts_of(policy, asked, settings, request, dispatcher, lake))


def decide_program(
    key: str, program: PauliProgram, reading: Reading, request: Request, settings: Settings, dispatcher: Dispatcher
) -> Route:
    """The route of a program, an estimate or kernel job of the family ``circuits``. Raises as ``decide``."""
    policy = load(settings.environment)
    asked = asked_of(key, CIRCUITS, program.qubits, request, settings)
    asked = replace(asked, kind=reading.kind, program=reading.size)
    return route(policy, asked, facts_of(policy, asked, settings, request, dispatcher, None))


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


def _most_jobs(family: ProblemFamily, request: Request, settings: Settings) -> int:
    """How many jobs an instance sends at most: its rounds, or its trips where the family's large ones are walked."""
    rounds = jobs_of(family, settings.repetitions)
    walks = type(family).landscape is not ProblemFamily.landscape
    return max(rounds, request.trips or settings.trips) if walks else rounds


def jobs_of(family: ProblemFamily, repetitions: int) -> int:
    """How many jobs an instance that fits its device sends at most; they share its budget."""
    return family.rounds * (repetitions if family.rounds > 1 else 1)


def facts_of(
    policy: Policy, asked: Asked, settings: Settings, request: Request, dispatcher: Dispatcher, lake: Lake | None
) -> dict[str, Facts]:
    """What is known about each backend that the policy or the request may choose."""
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
            found[name] = Facts(
                backend.capabilities(),
                missing=backend.available(),
                killed=said if mode is Mode.KILLED else None,
                resting=said if mode in (Mode.PAUSED, Mode.DRAINED) else breakers.get(name),
                estimate=_estimate(policy, backend, asked, settings, request, by_tier),
                shown=shown.get(name, Shown()),
            )
        except HybridError as error:
            # its package is broken or one of its variables is wrong: that concerns nobody else
            found[name] = Facts(Capabilities(EvidenceClass.CLASSICAL, 0, ()), missing=str(error))
    return found


def _estimate(
    policy: Policy, backend: QuantumBackend, asked: Asked, settings: Settings, request: Request, by_tier: bool
) -> Estimate | None:
    """One job's least price by the price list; of what runs here also its seconds, where backends are compared.

    What a provider has to be asked (its queue, its seconds) is asked when a job is about to be sent.
    """
    can = backend.capabilities()
    shots = request.shots or settings.algorithm.shots
    cost = money.price(policy, backend.name, shots=shots * asked.program.circuits) if can.metered else 0.0
    if can.remote or not by_tier:
        return Estimate(0.0, 0.0, cost) if can.metered else None
    if asked.kind not in can.kinds:
        return None
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
        algorithm=settings.algorithm.model_copy(update={"shots": shots, "name": name}),
        backend=backend.name,
        expected_shape=(shots, n),
        timeout=TimeoutBudget(queue=budget, execution=budget, total=2 * budget),
    )
    try:
        return replace(backend.estimate(draft), cost=cost)
    except BackendError:
        return None


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
