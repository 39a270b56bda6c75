"""Our door under huggingface_hub.

The hub's client is one for the whole process and may be used by others at the same time: by our own
downloads of checkpoints, or by the program that imports us. So the client put there is a switch:
inside ``through`` it hands requests to that call's door; everywhere else to the client there was.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from svd_local.tiers.remote.library import http_library


class Way(Protocol):
    """What hands requests on: a door, or one that looks at what comes back through it."""

    def send(self, request: Any) -> Any:
        """The answer to ``request``, of 2xx, read to its end."""
        ...


_way: ContextVar[Way | None] = ContextVar("svd_local_way", default=None)
_installing = threading.Lock()


@contextlib.contextmanager
def through(way: Way) -> Iterator[None]:
    """Inside, whatever this thread asks of the hub goes through ``way``."""
    _install()
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


def _install() -> None:
    """Put the switch under the hub, unless it is there."""
    import huggingface_hub

    with _installing:
        if isinstance(huggingface_hub.get_session(), _switch()):
            return
        before = _factory()
        huggingface_hub.set_client_factory(lambda: _switch()(before))


def _factory() -> Callable[[], Any]:
    """The factory in use, which a program may have set: with its own proxy, say.

    The hub has no public way to ask for it.
    """
    from huggingface_hub.utils import _http

    factory: Callable[[], Any] = _http._GLOBAL_CLIENT_FACTORY
    return factory


@functools.cache
def _switch() -> type[Any]:
    """The switch's class, of the library the hub is built on."""
    library = http_library()
    base: Any = library.Client

    class Switch(base):  # type: ignore[misc] # which library it is of is known only at run time
        """A client that is another one, or a door."""

        def __init__(self, factory: Callable[[], Any]) -> None:
            super().__init__(transport=library.BaseTransport())  # it opens no connection
            self._factory = factory
            self._outside: Any = None
            self._making = threading.Lock()

        def build_request(self, *args: Any, **kwargs: Any) -> Any:
            if _way.get() is not None:
                return super().build_request(*args, **kwargs)
            return self._other().build_request(*args, **kwargs)

        def send(self, request: Any, **kwargs: Any) -> Any:
            way = _way.get()
            if way is not None:
                return way.send(request)
            return self._other().send(request, **kwargs)

        def close(self) -> None:
            super().close()
            if self._outside is not None:
                self._outside.close()

        def _other(self) -> Any:
            with self._making:
                if self._outside is None:
                    self._outside = self._factory()
                return self._outside

    return Switch
