"""The ``cvrp`` family: routes of a fleet from one depot, within capacities and, where the file has them, time windows.

Here: objective, violations, the fleet's size, the set-partitioning program. Not here: files (``routing_files``), the
sets of the program (``route_sets``), neighbourhoods (``fleet``), pictures (``routing_plots``), solvers.

Formats, recognised by content: VRPLIB and CVRPLIB (``TYPE : CVRP`` or ``VRPTW``; QOBLIB's routing files are such) and
Solomon's tables. A solution is int64 of shape ``(customers,)``: route·customers + position for each customer
(``fleet.routes_of`` gives the routes). The fleet is a limit, not a target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from hybrid_assets.problems.base import (
    PROGRAM_VARIABLES,
    Evaluation,
    FamilyOptions,
    Instance,
    ProblemFamily,
    Program,
    Reference,
    Solution,
)
from hybrid_assets.problems.packing.binpacking import fewest
from hybrid_assets.problems.routing.fleet import FleetLandscape, codes_of, problem_of, routes_of
from hybrid_assets.problems.routing.route_sets import UNIFORM_CUSTOMERS, RouteSets, drawn, route_sets
from hybrid_assets.problems.routing.routing_files import RawRouting, kind_of, read_sectioned, read_solomon
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing
from resources.failures import InfeasibleError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Evaluations of the polish behind the reference point.
_POLISH = 200_000
_COMMENT_FLEET = re.compile(r"(?:trucks|vehicles)\s*:?\s*(\d{1,6})", re.IGNORECASE)
_NAME_FLEET = re.compile(r"-k(\d{1,6})\b")
#: In this set k is a lower bound and the fleet is free (Uchoa et al., European Journal of Operational Research 257,
#: 2017).
_FREE_FLEET = re.compile(r"X-n\d+-k\d+")


class CvrpOptions(FamilyOptions):
    """Options of the family."""

    #: Most vehicles; by default what the file says (its field, its comment or its name), else one per customer.
    vehicles: int | None = Field(default=None, ge=1, le=1_000_000)


class Cvrp(ProblemFamily):
    """Capacitated vehicle routing, with time windows where the file has them."""

    name = "cvrp"
    version = "1"
    title = "vehicle routes within capacities and time windows (CVRP, VRPTW)"
    options = CvrpOptions

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content says ``TYPE : CVRP`` or ``VRPTW``, or is one of Solomon's tables."""
        return kind_of(source) in ("CVRP", "VRPTW", "SOLOMON")

    def read(self, source: SourceFile) -> Sequence[RawRouting]:
        """Parse one problem."""
        if not self.recognises(source):
            # a binary file has no text to look at and says so here
            _ = source.text
            raise InputError(
                source.name,
                "TYPE",
                "it is no CVRP or VRPTW",
                "write 'TYPE : CVRP' in a VRPLIB file, or Solomon's tables",
            )
        return [read_solomon(source) if kind_of(source) == "SOLOMON" else read_sectioned(source)]

    def normalize(self, raw: RawRouting, options: FamilyOptions, name: str) -> Instance:
        """Settle the fleet and check that everyone can be served.

        Arrays: ``distance`` (int64, ``(n + 1, n + 1)``, place 0 is the depot, in units of ``1 / scale``), ``scale`` and
        ``capacity`` (int64, ``(1,)``), ``demands`` (int64, ``(n + 1,)``); with windows ``ready``, ``due`` and
        ``service`` (int64, ``(n + 1,)``, in units of ``1 / scale``); ``places`` (float64, ``(n + 1, 2)``) where known.

        Raises:
            InputError: the depot has a demand.
            InfeasibleError: a demand above the capacity, demands above the fleet's, a window that cannot be reached.
        """
        assert isinstance(options, CvrpOptions)
        customers = len(raw.distance) - 1
        vehicles, origin = (options.vehicles, "the options") if options.vehicles else _fleet(raw, customers)
        if raw.demands[0] != 0:
            raise InputError(
                raw.file, f"line {raw.lines[0]}", f"the depot has a demand of {raw.demands[0]}", "set it to 0"
            )
        if len(raw.service) and raw.service[0] != 0:
            raise InputError(raw.file, f"line {raw.lines[0]}", "the depot has a service time", "set it to 0")
        over = np.flatnonzero(raw.demands > raw.capacity)
        if over.size:
            k = int(over[0])
            raise InfeasibleError(
                raw.file,
                f"line {raw.lines[k]}",
                f"place {raw.labels[k]} asks for {raw.demands[k]}, a vehicle holds {raw.capacity}",
                "split the demand or raise the capacity",
            )
        total = int(raw.demands.sum())
        if total > vehicles * raw.capacity:
            raise InfeasibleError(
                raw.file,
                "vehicles",
                f"the demands add up to {total}, {vehicles} vehicles hold {vehicles * raw.capacity}",
                "give more vehicles or a larger capacity",
            )
        needed = fewest(raw.demands[raw.demands > 0], raw.capacity) if total else 0
        if needed > vehicles:
            raise InfeasibleError(
                raw.file,
                "vehicles",
                f"the demands cannot be dealt to fewer than {needed} of capacity {raw.capacity}, there are {vehicles}",
                "give more vehicles or a larger capacity",
            )
        arrays = {
            "distance": raw.distance,
            "scale": np.array([raw.scale], dtype=np.int64),
            "capacity": np.array([raw.capacity], dtype=np.int64),
            "demands": raw.demands,
        }
        if raw.places is not None:
            arrays["places"] = raw.places
        if raw.windows is not None:
            arrays |= {"ready": raw.windows[:, 0], "due": raw.windows[:, 1], "service": raw.service}
            _check_windows(raw)
        return Instance(
            family=self.name,
            name=name,
            size=customers,
            sense="min",
            arrays={key: np.ascontiguousarray(value) for key, value in arrays.items()},
            settings={"vehicles": vehicles},
            labels=raw.labels[1:],
            notes=(f"at most {vehicles} vehicles, from {origin}",),
        )

    # -- program -------------------------------------------------------------------------------------------------

    def program_size(self, instance: Instance) -> int:
        """Sets of customers that one vehicle can serve; ``PROGRAM_VARIABLES + 1`` stands for any larger number."""
        sets = route_sets(instance, PROGRAM_VARIABLES)
        return PROGRAM_VARIABLES + 1 if sets is None else len(sets.routes)

    def _sets(self, instance: Instance) -> RouteSets:
        sets = route_sets(instance, PROGRAM_VARIABLES)
        if sets is None:
            raise InputError(
                instance.name,
                "size",
                f"more than {PROGRAM_VARIABLES} sets of customers fit into one vehicle, too many for a whole program",
                "solve it through its landscape",
            )
        return sets

    def model(self, instance: Instance) -> Program:
        """Set partitioning over all feasible routes, each in its cheapest order (Balinski & Quandt, Operations Research
        12, 1964): one bit per set of customers, every customer in exactly one set, at most as many as vehicles.

        Exact; it holds instances of about 15 customers, or more where few fit into one vehicle.

        Raises:
            InputError: more than ``PROGRAM_VARIABLES`` sets.
        """
        import dimod

        sets = self._sets(instance)
        cqm = dimod.ConstrainedQuadraticModel()
        cqm.add_variables(dimod.BINARY, range(len(sets.routes)))
        lengths = sets.lengths / float(instance.arrays["scale"][0])
        cqm.set_objective(dimod.BinaryQuadraticModel.from_numpy_vectors(lengths, ([], [], []), 0.0, dimod.BINARY))
        for c in range(1, instance.size + 1):
            serving = [(k, 1.0) for k, mask in enumerate(sets.masks) if mask >> (c - 1) & 1]
            cqm.add_constraint_from_iterable(serving, "==", 1.0, label=f"customer {c}")
        vehicles = int(instance.settings["vehicles"])
        if vehicles < instance.size:
            cqm.add_constraint_from_iterable(
                [(k, 1.0) for k in range(len(sets.routes))], "<=", float(vehicles), label="vehicles"
            )
        return Program(cqm, "set partitioning over all feasible routes")

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Total length; violations ``customers`` (without a place of their own in a route), ``vehicles`` (beyond the
        fleet), ``capacity`` (excess load) and ``time_windows`` (lateness in the file's units)."""
        distance, demand, ready, due, service, limits = problem_of(instance)
        scale = int(instance.arrays["scale"][0])
        codes = np.asarray(values).astype(np.int64)
        routes = routes_of(codes)
        total = excess = late = 0
        for route in routes:
            stops = np.concatenate([[0], route, [0]])
            total += int(distance[stops[:-1], stops[1:]].sum())
            excess += max(0, int(demand[route].sum()) - int(limits[0]))
            if limits[3]:
                late += _lateness(distance, ready, due, service, stops)
        amounts = {
            "customers": float(len(codes) - len(np.unique(codes[codes >= 0]))),
            "vehicles": float(max(0, len(routes) - int(instance.settings["vehicles"]))),
            "capacity": float(excess),
            "time_windows": late / scale,
        }
        return Evaluation(total / scale, {name: amount for name, amount in amounts.items() if amount > 0})

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The chosen routes; where they overlap, leave someone out or are too many, the larger ones are kept, the
        others' customers inserted where that is cheapest, and violations mended by local moves."""
        sets = self._sets(instance)
        chosen = np.flatnonzero(np.asarray(assignment))
        covered, kept = 0, []
        for k in chosen[::-1].tolist():
            if covered & sets.masks[k] == 0:
                covered |= sets.masks[k]
                kept.append(np.array(sets.routes[k], dtype=np.int64))
        whole = covered == (1 << instance.size) - 1
        if whole and len(kept) == len(chosen) <= int(instance.settings["vehicles"]):
            values = codes_of(kept, instance.size)
            return Solution(values, self.evaluate(instance, values))
        loose = [c for c in range(1, instance.size + 1) if not covered >> (c - 1) & 1]
        values = self.landscape(instance).mended(kept, loose)
        return Solution(values, self.evaluate(instance, values), PostProcessing.REPAIRED)

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """The sets of the solution's routes; one that no vehicle can serve has no bit."""
        sets = self._sets(instance)
        bits = np.zeros(len(sets.routes), dtype=np.int8)
        for route in routes_of(values):
            k = sets.index.get(sum(1 << (int(c) - 1) for c in route))
            if k is not None:
                bits[k] = 1
        return bits

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """A polished plan; routes come first that cost least beyond what their customers cost in it."""
        sets, landscape = self._sets(instance), self.landscape(instance)
        values = landscape.values(landscape.polish(landscape.start(seed), _POLISH).state)
        bits = self.assignment(instance, values)
        if not program.cqm.check_feasible(dict(enumerate(bits.tolist()))):
            bits = self.random_assignments(instance, 1, seed)[0]
        share = np.zeros(instance.size + 1)
        for k in np.flatnonzero(bits):
            share[list(sets.routes[k])] = sets.lengths[k] / len(sets.routes[k])
        beyond = sets.lengths - np.array([share[list(route)].sum() for route in sets.routes])
        return Reference(
            bits, -beyond, "savings and local moves; routes by their cost beyond their customers' shares in that plan"
        )

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Uniform among all choices of routes that serve everyone within the fleet (above 16 customers: drawn route by
        route, and where that finds none, plans as the landscape starts with).

        Raises:
            InfeasibleError: there is no such choice (up to 16 customers).
            InputError: none was found.
        """
        sets, rng = self._sets(instance), np.random.default_rng(seed)
        allowed, kept = np.arange(len(sets.routes)), np.zeros(len(sets.routes), dtype=np.int8)
        if free is not None:
            if base is None:
                raise ValueError("free variables need a base for the others")
            allowed, kept = np.asarray(free), np.array(base, dtype=np.int8)
            kept[allowed] = 0
        covered = sum(sets.masks[k] for k in np.flatnonzero(kept))
        open_, vehicles = ((1 << instance.size) - 1) & ~covered, int(instance.settings["vehicles"]) - int(kept.sum())
        draws = np.tile(kept, (count, 1))
        for draw in draws:
            chosen = drawn(sets, open_, allowed, vehicles, rng)
            if chosen is not None:
                draw[chosen] = 1
            elif base is not None:
                draw[:] = base
            elif instance.size > UNIFORM_CUSTOMERS:
                draw[:] = self._constructed(instance, int(rng.integers(2**31)))
            else:
                raise InfeasibleError(
                    instance.name,
                    "vehicles",
                    f"no choice of routes of {vehicles} vehicles serves everyone",
                    "give more vehicles or a larger capacity",
                )
        return draws

    def _constructed(self, instance: Instance, seed: int) -> np.ndarray:
        landscape = self.landscape(instance)
        plan = landscape.start(seed)
        if not plan.feasible:
            raise InputError(
                instance.name,
                "vehicles",
                f"no routes of {instance.settings['vehicles']} vehicles were found that serve everyone",
                "give more vehicles or a larger capacity",
            )
        return self.assignment(instance, landscape.values(plan))

    def landscape(self, instance: Instance) -> FleetLandscape:
        """Plans of the fleet with moves and reorderings."""
        return FleetLandscape(instance)

    # -- comparison and pictures ---------------------------------------------------------------------------------

    def baselines(self, instance: Instance) -> Sequence[str]:
        """Ruin and recreate, and PyVRP."""
        return ("ruin-recreate", "pyvrp")

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """Fleet, capacity, and whether there are windows."""
        return {
            "vehicles": int(instance.settings["vehicles"]),
            "capacity": int(instance.arrays["capacity"][0]),
            "total demand": int(instance.arrays["demands"].sum()),
            "time windows": "ready" in instance.arrays,
        }

    def told(self, instance: Instance, values: np.ndarray) -> list[str]:
        """The customers of every route in order of visit."""
        routes = routes_of(values)
        return [
            f"route {k}: " + " → ".join(instance.labels[int(c) - 1] for c in route) for k, route in enumerate(routes, 1)
        ]

    def plot_instance(self, instance: Instance) -> Figure:
        """Depot and customers, sized by demand."""
        from hybrid_assets.problems.routing.routing_plots import draw

        return draw(instance, {f"{instance.name}: {instance.size} customers": []}, depot=True)

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """The routes on the map, a colour for each vehicle."""
        from hybrid_assets.problems.routing.routing_plots import draw

        panels = {}
        for label, values in solutions.items():
            routes = [np.concatenate([[0], route]) for route in routes_of(values)]
            panels[f"{label}: {self.evaluate(instance, values).objective:g}, {len(routes)} vehicles"] = routes
        return draw(instance, panels, depot=True)


def _fleet(raw: RawRouting, customers: int) -> tuple[int, str]:
    """The number of vehicles that a file allows, and where it says so."""
    if raw.vehicles is not None:
        return raw.vehicles, "the file"
    if (found := _COMMENT_FLEET.search(raw.comment)) is not None and int(found[1]) >= 1:
        return int(found[1]), "the file's comment"
    if _FREE_FLEET.match(raw.name) is None and (found := _NAME_FLEET.search(raw.name)) is not None and int(found[1]):
        return int(found[1]), "the file's name"
    return customers, "the number of customers, the file has no limit"


def _check_windows(raw: RawRouting) -> None:
    """Refuse customers that not even a vehicle of their own serves in time."""
    windows = raw.windows
    assert windows is not None
    ready, due = windows[:, 0], windows[:, 1]
    # shortest ways, not direct ones: distances that were cut off may break the triangle inequality
    there, back = raw.distance[0].copy(), raw.distance[:, 0].copy()
    while True:
        nearer = np.minimum(there, (there[:, None] + raw.distance).min(axis=0))
        home = np.minimum(back, (raw.distance + back[None, :]).min(axis=1))
        if np.array_equal(nearer, there) and np.array_equal(home, back):
            break
        there, back = nearer, home
    arrival = np.maximum(ready, ready[0] + raw.service[0] + there)
    arrival[0] = ready[0]
    back[0] = 0
    late = np.flatnonzero((arrival > due) | ((arrival + raw.service + back > due[0]) & (np.arange(len(due)) > 0)))
    if late.size:
        k = int(late[0])
        raise InfeasibleError(
            raw.file,
            f"line {raw.lines[k]}",
            f"place {raw.labels[k]} cannot be served between {ready[k] / raw.scale:g} and {due[k] / raw.scale:g}"
            f" by a vehicle that is back at {due[0] / raw.scale:g}",
            "widen the window",
        )


def _lateness(distance: np.ndarray, ready: np.ndarray, due: np.ndarray, service: np.ndarray, stops: np.ndarray) -> int:
    """Time warp of one route in units of the instance; see ``route_kernels``."""
    late, clock = 0, int(ready[0])
    for here, there in zip(stops[:-1].tolist(), stops[1:].tolist(), strict=True):
        clock = max(clock + int(service[here]) + int(distance[here, there]), int(ready[there]))
        late += max(0, clock - int(due[there]))
        clock = min(clock, int(due[there]))
    return late
