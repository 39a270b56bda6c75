"""The only module that imports Ray: connecting to a cluster, hiring actors, calling them."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import svd_local
from svd_local.batch.ray.actor import Actor
from svd_local.batch.ray.far import ActorLost
from svd_local.batch.ray.values import House, Order
from svd_local.errors import InvalidRequest, SvdLocalError

_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""Has a cluster of one machine listen on 127.0.0.1 alone, as Ray does on macOS, and ask for a token."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Nothing is told to anybody."""
_ANSWER_S = 5.0
_CLOSE_PATIENCE_S = 10.0
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Places:
    """How many actors the cluster has room for, and what each of them takes."""

    count: int
    gpu: bool
    cpus: int


class Cluster:
    """A connection to a Ray cluster; a context manager. Its actors end with it.

    Args:
        address: ``HOST:PORT`` of the head node, or ``auto`` for the cluster this machine is a node of.
            None: ``RAY_ADDRESS``, else one of this machine alone, for as long as the batch runs; it
            listens on the loopback only, unless the process had imported Ray before. Where the process
            is connected already that connection is used, and left as it is.
        actor: what is hired; tests have their own.

    Raises:
        InvalidRequest: Ray is not installed, or the cluster does not answer or refuses.
    """

    def __init__(self, address: str | None, actor: Callable[[House], Actor] = Actor) -> None:
        self._address = address
        self._actor = actor
        self._own = False
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        if sys.modules.get("ray") is not None and _is_connected():
            return self
        named = self._address or os.environ.get("RAY_ADDRESS")
        if named is not None:
            _require_answer(named)
        self._set(_QUIET if named is not None else {**_QUIET, **_ALONE})
        try:
            _connect(named)
            self._own = True
        except BaseException:
            self._reset()
            raise
        return self

    def _set(self, variables: Mapping[str, str]) -> None:
        """Set what Ray reads from the environment, some of it while it is imported."""
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def _reset(self) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._own:
            import ray

            ray.shutdown()
        self._reset()

    def places(self, workers: int | None = None) -> Places:
        """One for each GPU of the nodes that live; without any GPU one for each node with CPUs.

        Args:
            workers: how many instead: more than there is room for now wait for nodes to come.
        """
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if gpus:
            return Places(gpus if workers is None else workers, True, 1)
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        if not cpus:
            return Places(workers or 0, False, 1)
        count = len(cpus) if workers is None else workers
        each = min(cpus) // max(1, math.ceil(count / len(cpus)))
        return Places(count, False, max(1, each))

    def hire(self, house: House, places: Places, lanes: int) -> RayHand:
        """Have an actor started, where and as soon as there is room for it."""
        import ray

        # A call of `make` for each lane, what is said beside each, and some for those being given up.
        options = {
            "num_cpus": places.cpus,
            "num_gpus": 1 if places.gpu else 0,
            "max_concurrency": 4 * lanes + 4,
            "max_restarts": 0,  # whether and when another one comes is the staff's to say
            "max_task_retries": 0,  # and tries are the catalog's
            "scheduling_strategy": "DEFAULT" if places.gpu else "SPREAD",
        }
        with _losses():
            return RayHand(ray.remote(self._actor).options(**options).remote(house))


class RayHand:
    """An actor, called from here; see ``far.Hand``."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def place(self) -> str | None:
        """The address of the node its process runs on, be it up or still starting; see ``far.Hand``.

        Ray's public way to ask asks the dashboard, which a cluster need not have. This one is Ray's own:
        where a later Ray has it no more, nothing is known, and an actor is waited for as if for room.
        """
        with suppress(Exception):
            from ray._private import state

            address = state.actors(self._actor._actor_id.hex())["Address"]["IPAddress"]
            return str(address) or None
        return None

    def hello(self) -> Any:
        return self._call("hello")

    def ping(self) -> Any:
        return self._call("ping")

    def make(self, ticket: str, order: Order) -> Any:
        return self._call("make", ticket, order)

    def hear(self, ticket: str) -> Any:
        return self._call("hear", ticket)

    def answer(self, ticket: str, known: bool) -> None:
        self._call("answer", ticket, known)

    def cancel(self, ticket: str) -> None:
        self._call("cancel", ticket)

    def ready(self, promises: list[Any], timeout_s: float) -> list[Any]:
        import ray

        with _losses():
            return list(ray.wait(promises, num_returns=1, timeout=timeout_s)[0])

    def result(self, promise: Any) -> Any:
        import ray

        with _losses():
            return ray.get(promise)

    def close(self) -> None:
        """Let it clear up, then end it."""
        with suppress(ActorLost):
            self.ready([self._call("close")], _CLOSE_PATIENCE_S)
        self.kill()

    def kill(self) -> None:
        """End it now, or before it has begun."""
        import ray

        with suppress(Exception):  # whatever has become of it, it is wanted no more
            ray.kill(self._actor, no_restart=True)

    def _call(self, method: str, *args: Any) -> Any:
        with _losses():
            return getattr(self._actor, method).remote(*args)


def own_node() -> str:
    """The address of the node this process runs on."""
    import ray

    return str(ray.util.get_node_ip_address())


@contextmanager
def _losses() -> Iterator[None]:
    """Within it, whatever Ray says of an actor that is gone becomes ``ActorLost``."""
    from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, SvdLocalError):
            raise error.cause from None
        raise RuntimeError(_line(str(error))) from error
    except ActorUnavailableError as error:
        # Ray would have us wait whether it answers again; what it was making is lost to us either way.
        raise ActorLost("its process or its node does not answer any more") from error
    except RayError as error:
        raise ActorLost(_line(str(error))) from error


def _line(text: str) -> str:
    """What matters of Ray's many lines: the cause of a death, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason is known"]
    said = [line for line in lines if line.startswith("The actor is dead because")]
    line = said[0].removeprefix("The actor is dead because").lstrip(" :") if said else lines[-1]
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"


def _require_answer(address: str) -> None:
    """Find out quickly that nobody is there: Ray would try for minutes.

    Raises:
        InvalidRequest: no connection can be made to ``address``, or it is none we take.
    """
    if "://" in address:
        raise InvalidRequest(
            f"address: {address[:80]} names a protocol, and the batch has to be on a node itself",
            hint="Start it on a node of the cluster, with --address auto or HOST:PORT.",
            field="address",
        )
    host, _, port = address.rpartition(":")
    if address in ("auto", "local") or not (host and port.isdecimal()):
        return  # Ray finds it, or says what it takes
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _is_connected() -> bool:
    import ray

    return bool(ray.is_initialized())


def _connect(address: str | None) -> None:
    try:
        import ray
    except ImportError as error:
        raise InvalidRequest(
            f"runner: Ray cannot be imported: {error}",
            hint="Install the extra ray, here and on every node: scripts/setup ray.",
            field="runner",
        ) from error
    given: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray.job_config.JobConfig(_py_driver_sys_path=_own_root()),
    }
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **given)
        else:
            ray.init(address=address, **given)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, _line(str(error))) from error


def _own_root() -> list[str]:
    """Where this package is found, if Python's usual places are not enough to find it.

    Ray has the actors look into the folder the command was given in, first of all. A folder of the
    package's name there, as a clone of its repository is, would stand in its way where it was
    installed in editable mode: any folder goes before what an installer's own finder knows.
    """
    root = str(Path(svd_local.__file__).resolve().parents[1])
    return [] if root in sys.path else [root]


def _no_cluster(address: str | None, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"address: no Ray cluster at {address or 'this machine'}: {why}",
        hint="ray status shows on a node whether it runs. RAY_AUTH_MODE and the token must be the same "
        "here as there, and so must the versions of Ray and Python.",
        field="address",
    )
