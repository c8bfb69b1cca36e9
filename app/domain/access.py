"""API keys: whose they are, and how a key that somebody presents is looked up.

Only digests are kept: what is compared tells nothing about the key, has one length, and is bytes,
so no key, however long or strange, makes the comparison stumble. All digests are compared, each in
constant time, so the time an answer takes tells neither which key was nearly right nor how many
there are before it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

_TENANT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY: Final = re.compile(r"[\x21-\x7e]+")
_DIGEST: Final = re.compile(r"sha256:([0-9A-Fa-f]{64})")
_DIGEST_PREFIX: Final = "sha256:"
_OF_NOTHING: Final = sha256(b"").digest()
"""What a shell makes of a variable that is not set: everybody would have that key."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A tenant and the SHA-256 digest of one of its keys."""

    tenant: str
    digest: bytes = field(repr=False)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `tenant:key` or `tenant:sha256:HEX`. Raises `ValueError`, which repeats nothing."""
        tenant, _, key = text.partition(":")
        digest = _digest(key)
        if digest is None or not _TENANT.fullmatch(tenant):
            raise ValueError(
                "should be tenant:key or tenant:sha256:HEX, comma-separated; tenants are 1 to 64 of"
                " A-Z, a-z, 0-9, '.', '_' and '-', keys visible ASCII, not empty"
            )
        return cls(tenant, digest)


class Keys:
    """All API keys of a service; a tenant may have several."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)
        self._tenants = frozenset(key.tenant for key in self._keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __contains__(self, tenant: object) -> bool:
        return tenant in self._tenants

    def tenant_of(self, key: bytes) -> str | None:
        """Return the tenant whose key this is, `None` if it is nobody's."""
        digest = sha256(key).digest()
        found = None
        for known in self._keys:
            if hmac.compare_digest(known.digest, digest):
                found = known.tenant
        return found


def _digest(key: str) -> bytes | None:
    """Return the digest of a key, or that which is written in its place."""
    if key.startswith(_DIGEST_PREFIX):
        written = _DIGEST.fullmatch(key)
        digest = bytes.fromhex(written[1]) if written else _OF_NOTHING
        return None if digest == _OF_NOTHING else digest
    return sha256(key.encode("ascii")).digest() if _KEY.fullmatch(key) else None
