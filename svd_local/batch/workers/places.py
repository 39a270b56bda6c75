"""Where the worker processes of a batch run: one a GPU, or on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

from svd_local.errors import InvalidRequest
from svd_local.tiers.gpus import Gpu, list_gpus, no_cuda

Place = Gpu | None
"""A GPU of one's own; None: the CPU, shared."""


def choose_places(workers: int | None = None, gpus: Sequence[str] | None = None) -> list[Place]:
    """A place for each worker process; none where the batch is to run in this process.

    With GPUs: one on each of those that ``CUDA_VISIBLE_DEVICES`` lets this process see. Even one GPU
    has a process of its own: a broken CUDA context, or a driver that crashes, ends no more than that.
    Without: none, unless ``workers`` says how many.

    Args:
        workers: how many; 0 for none.
        gpus: which ones: their numbers, counted from 0 among those that are seen, or the beginnings
            of their UUIDs.

    Raises:
        InvalidRequest: there is no such GPU, or there are fewer than ``workers``.
    """
    if workers is not None and workers < 0:
        raise InvalidRequest(
            f"workers: {workers} is less than 0", hint="Write 0 or more.", field="workers"
        )
    missing = no_cuda()
    if gpus is not None and (missing is not None or workers == 0):
        why = missing or "they are used by worker processes, and there are to be none"
        raise InvalidRequest(f"gpus: {why}", hint="Leave out which GPUs.", field="gpus")
    if workers == 0:
        return []
    if missing is not None:
        return [None] * (workers or 0)
    there = list_gpus()
    chosen = there if gpus is None else _named(there, gpus)
    if workers is not None and workers > len(chosen):
        raise InvalidRequest(
            f"workers: {workers} are more than the {len(chosen)} GPUs, and each takes one to itself",
            hint="Write fewer; or hide the GPUs with CUDA_VISIBLE_DEVICES= to work on the CPU.",
            field="workers",
        )
    return list(chosen[:workers])


def _named(there: Sequence[Gpu], names: Sequence[str]) -> list[Gpu]:
    found: list[Gpu] = []
    for name in map(str.strip, names):
        if name.isdecimal():
            some = there[int(name) : int(name) + 1]
        else:
            some = [gpu for gpu in there if name and (gpu.uuid or "").startswith(name)]
        if len(some) != 1:
            known = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(there))
            raise InvalidRequest(
                f"gpus: {name[:60]!r} is {'more than one' if some else 'none'} of the GPUs here",
                hint=f"There is {known}.",
                field="gpus",
            )
        if some[0] not in found:
            found += some
    if not found:
        raise InvalidRequest("gpus: none is named", hint="Write 0, or 0,2.", field="gpus")
    return found
