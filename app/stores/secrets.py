"""Secrets that a store makes for the service, and keeps."""

from __future__ import annotations

import secrets

_SECRET_BYTES = 32


def new_secret() -> bytes:
    """Return random bytes, to be kept unless there are some already."""
    return secrets.token_bytes(_SECRET_BYTES)
