"""Parts of the networks that `torch.compile` takes, each compiled once for every shape it meets.

The network is the same few functions over and over: a resblock's halves, a transformer's way in and its
two blocks. Compiled by themselves they cost seconds; the step as one graph, which spells out every one
of them, costs minutes. Weights are arguments, so that blocks of the same shapes share what was compiled.

A function becomes a region by a decorator and stays what it was, but within `Compilation.at_work`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Function = Callable[..., Any]
Graph = Callable[..., Any]

_SHAPES = 256
"""More shapes of one region than any network has; torch would go back to eager after eight."""
_WORTH_TELLING_S = 1.0
_at_work: ContextVar[Compilation | None] = ContextVar("compilation at work", default=None)


def region(function: Callable[P, R]) -> Callable[P, R]:
    """Have ``function`` compiled where a `Compilation` is at work.

    It must read nothing but its arguments and need no break in its graph; it may change them.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        import torch

        if torch.compiler.is_compiling():  # as part of a larger graph
            return function(*args, **kwargs)
        compilation = _at_work.get()
        if compilation is None:
            return function(*args, **kwargs)
        return compilation.run(function, *args, **kwargs)

    return run


def working(compilation: Compilation | None) -> AbstractContextManager[None]:
    """Within it regions are compiled by ``compilation``, in this thread; of None nothing changes."""
    return nullcontext() if compilation is None else compilation.at_work()


class Compilation:
    """What was compiled for one pair of networks, and what came of it.

    The first thing that cannot be compiled ends it: from there on everything runs as it is written.
    That is no error, but `failure` says why.

    Args:
        backend: of `torch.compile`; one other than ``inductor`` only shows whether it takes the graphs.
    """

    def __init__(self, backend: str = "inductor") -> None:
        self._backend = backend
        self._compiled: dict[Function, Function] = {}
        self.graphs = 0
        """Compiled, or found in the cache on disk."""
        self.seconds = 0.0
        """Spent on that."""
        self.failure: str | None = None
        """Why nothing is compiled any more."""
        self._told_s = 0.0

    def told(self) -> str | None:
        """What its user should know that this was not asked for yet: why it failed, what it took."""
        if self.failure is not None:
            return f"not compiled, so slower and otherwise the same: {self.failure}"
        spent, self._told_s = self.seconds - self._told_s, self.seconds
        if spent < _WORTH_TELLING_S:
            return None
        return f"the denoising's time has {spent:.0f} s of compiling in it, once for this size"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it regions are compiled as they are met, in this thread."""
        import torch

        token = _at_work.set(self)
        try:
            with torch._dynamo.config.patch(
                recompile_limit=_SHAPES, accumulated_recompile_limit=16 * _SHAPES
            ):
                yield
        finally:
            _at_work.reset(token)

    def run(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """``function`` of its arguments, compiled for their shapes where that can be done."""
        import torch
        from torch._dynamo.exc import TorchDynamoException

        # Whoever looks at every operation would not see those of compiled code.
        if self.failure is not None or torch._C._len_torch_dispatch_stack():
            return function(*args, **kwargs)

        graphs, began = self.graphs, time.perf_counter()
        try:
            return self._of(function)(*args, **kwargs)  # type: ignore[no-any-return]
        except TorchDynamoException as error:
            # Raised while the graph is made, before anything of it ran: the arguments are untouched.
            self._fail(error)
            return function(*args, **kwargs)
        finally:
            if self.graphs > graphs or self.failure is not None:
                self.seconds += time.perf_counter() - began

    def _of(self, function: Function) -> Function:
        import torch

        if function not in self._compiled:
            self._compiled[function] = torch.compile(
                function, fullgraph=True, dynamic=False, backend=self._compile
            )
        return self._compiled[function]

    def _compile(self, graph: Any, inputs: list[Any]) -> Graph:
        """By torch's backend; a graph that it fails on runs as it is."""
        from torch._dynamo.backends.registry import lookup_backend

        self.graphs += 1
        try:
            return lookup_backend(self._backend)(graph, inputs)
        except Exception as error:  # noqa: BLE001  # compilers fail in every way there is
            self._fail(error)
            return graph.forward  # type: ignore[no-any-return]

    def _fail(self, error: Exception) -> None:
        inner = getattr(error, "inner_exception", None) or error
        first = next((line for line in str(inner).splitlines() if line.strip()), "")
        self.failure = f"{type(inner).__name__}: {first.strip()}"[:300]
