"""Checkpoints of the choice of angles: what was measured survives the process that measured it.

Every evaluation (a schedule, its shots, a seed) is a pure function of what names it. So a checkpoint holds evaluations,
not the optimizer's state: the next attempt repeats the optimizer's steps and takes what is known from here, and ends
with the very answer that the first one would have had. Here: that memory, on disk beside the notes of submissions. Not
here: the optimizer (``qaoa``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from resources.backends import notes
from resources.envelope import digest_of

if TYPE_CHECKING:
    import dimod

    from resources.envelope import Algorithm

#: Seconds of work that a death may cost; a shorter training leaves no file at all.
EVERY_SECONDS = 1.0

#: CVaR and mean of each schedule of an evaluation.
Scores = list[tuple[float, float]]


class Checkpoint:
    """Evaluations of one training so far; nothing is read before the first of them is asked for.

    Args:
        where, payload, algorithm: as for ``resumable``.
    """

    def __init__(self, where: str, payload: dimod.BinaryQuadraticModel, algorithm: Algorithm) -> None:
        self._training = (where, payload, algorithm)
        self._saved_at = time.monotonic()

    @cached_property
    def name(self) -> str:
        """Key of its note."""
        where, payload, algorithm = self._training
        vectors = payload.to_numpy_vectors(variable_order=range(payload.num_variables))
        terms = [*(part.tolist() for part in (vectors.linear_biases, *vectors.quadratic)), float(vectors.offset)]
        return "training/" + digest_of([where, terms, algorithm.model_dump(mode="json")])

    @cached_property
    def evaluations(self) -> dict[str, tuple[Scores, float]]:
        """Scores and seconds of each, by ``key``."""
        kept = (notes.read(self.name) or {}).get("evaluations", {})
        return {key: ([(value, mean) for value, mean in scores], seconds) for key, (scores, seconds) in kept.items()}

    @staticmethod
    def key(gammas: np.ndarray, betas: np.ndarray, seed: int) -> str:
        """Names an evaluation by its schedules, shape ``(k, depth)`` or ``(depth,)``, and the seed of its shots."""
        return digest_of([np.asarray(gammas).tolist(), np.asarray(betas).tolist(), seed])[:24]

    def keep(self, key: str, scores: Scores, seconds: float) -> None:
        """Remember an evaluation; on disk too, when the last time is ``EVERY_SECONDS`` ago."""
        self.evaluations[key] = (scores, seconds)
        if time.monotonic() - self._saved_at >= EVERY_SECONDS:
            # a full disk is no reason to give up what runs
            with suppress(OSError):
                notes.write(self.name, {"evaluations": self.evaluations})
            self._saved_at = time.monotonic()

    def forget(self) -> None:
        """Remove the note, if there can be one."""
        if "evaluations" in vars(self):
            notes.remove(self.name)


@contextmanager
def resumable(where: str, payload: dimod.BinaryQuadraticModel, algorithm: Algorithm) -> Iterator[Checkpoint]:
    """The checkpoint of this choice of angles, with what an earlier attempt left; gone when the block ends well.

    Args:
        where: machine and its condition; the same schedule gives something else on another.
        payload: BINARY model over 0 … n−1.
        algorithm: all settings.
    """
    checkpoint = Checkpoint(where, payload, algorithm)
    yield checkpoint
    checkpoint.forget()
