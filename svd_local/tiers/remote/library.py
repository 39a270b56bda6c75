"""Which HTTP library is in use."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from svd_local.errors import TierUnavailable


@functools.cache
def http_library() -> Any:
    """The HTTP library huggingface_hub is built on: ``httpx`` or ``httpx2``.

    Told by the base of the hub's public error, since both may be installed.
    """
    from huggingface_hub.errors import HfHubHTTPError

    base = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return importlib.import_module(base.__module__.partition(".")[0])


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Inside, in this thread, the library does not log headers: at DEBUG it writes out every answer's,
    a redirect's among them, which may name a signed address.
    """
    _keep_headers_out_of_logs()
    before, _quiet.on = getattr(_quiet, "on", False), True
    try:
        yield
    finally:
        _quiet.on = before


_quiet = threading.local()


@functools.cache
def _keep_headers_out_of_logs() -> None:
    core = http_library().__name__.replace("httpx", "httpcore")
    for protocol in ("http11", "http2", "proxy", "socks"):
        logging.getLogger(f"{core}.{protocol}").addFilter(_without_headers)


def _without_headers(record: logging.LogRecord) -> bool:
    return not (getattr(_quiet, "on", False) and "headers" in record.getMessage())


@functools.cache
def trust() -> ssl.SSLContext:
    """Certificates are verified, always: against the system's, or those SSL_CERT_FILE names. Made once,
    since reading them takes a tenth of a second.

    Raises:
        TierUnavailable: those it names cannot be read.
    """
    try:
        context: ssl.SSLContext = http_library().create_ssl_context()
    except OSError as error:
        named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or "the system's"
        raise TierUnavailable(
            f"the certificates to trust cannot be read from {named}: {error}",
            hint="Set SSL_CERT_FILE to a file of PEM certificates, or unset it.",
        ) from None
    return context
