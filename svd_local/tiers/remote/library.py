"""Which HTTP library is in use."""

from __future__ import annotations

import functools
import importlib
import ssl
from typing import Any


@functools.cache
def http_library() -> Any:
    """The HTTP library huggingface_hub is built on: ``httpx`` or ``httpx2``.

    Told by the base of the hub's public error, since both may be installed.
    """
    from huggingface_hub.errors import HfHubHTTPError

    base = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return importlib.import_module(base.__module__.partition(".")[0])


@functools.cache
def trust() -> ssl.SSLContext:
    """Certificates are verified, always. Made once: reading them takes a tenth of a second."""
    context: ssl.SSLContext = http_library().create_ssl_context()
    return context
