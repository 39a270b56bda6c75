"""Which HTTP library is in use."""

from __future__ import annotations

import functools
import importlib
import os
import ssl
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
