"""Tickets: what opens one run's events to those who cannot send a header, as `EventSource`.

A ticket says which tenant's which run it opens, and until when, and is signed; nothing is stored.
It is tied to the run id in the path it was made for, so a member's link has a ticket of its own.
A browser that reconnects sends the same ticket again: hence it lasts to a minute past the deadline
of the run, whatever the settings say. A stream that is open is not cut when its ticket expires.

The first of the signing keys signs and all of them verify. So a new key first goes behind the old
one, until every replica knows it, then in front, and the old one is removed when its tickets have
expired. Without the setting there is one key, which the
store keeps: after a restart, and on other replicas, it is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

from itsdangerous import BadData, URLSafeSerializer

from app.domain.run import MemberRun, Run
from app.ports import Store

_KEPT_AS: Final = "tickets"
_SALT: Final = b"team-runs ticket"
_AFTER_DEADLINE_S: Final = 60


class Tickets:
    """Makes tickets that last `ttl_s` seconds or longer, and looks at those that are shown."""

    def __init__(
        self,
        store: Store,
        signing_keys: Sequence[bytes] = (),
        ttl_s: float = 3600,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._signing_keys = signing_keys
        self._ttl_s = ttl_s
        self._now = now
        self._signing: URLSafeSerializer | None = None

    async def issue(self, tenant: str, run: Run | MemberRun) -> str:
        """Return a ticket for the events of a run, or member run. Raises `StoreUnavailable`."""
        created_at = datetime.fromisoformat(run.request.created_at).timestamp()
        deadline = created_at + run.request.timeout_s
        expires = max(self._now() + self._ttl_s, deadline + _AFTER_DEADLINE_S)
        return str((await self.ready()).dumps([tenant, run.run_id, round(expires)]))

    async def tenant_in(self, ticket: str, run_id: str) -> str | None:
        """Return whose ticket for this run it is, `None` if it is none (any more).

        Raises `StoreUnavailable`.
        """
        signing = await self.ready()
        try:
            tenant, opened, expires = signing.loads(ticket)
        except BadData:
            return None
        return str(tenant) if opened == run_id and self._now() < expires else None

    async def ready(self) -> URLSafeSerializer:
        """Return what signs; whoever asks once need not fear an outage of the store later."""
        if self._signing is None:
            keys = self._signing_keys or [await self._store.secret(_KEPT_AS)]
            self._signing = URLSafeSerializer(
                list(reversed(keys)),  # itsdangerous signs with the last
                _SALT,
                signer_kwargs={"key_derivation": "hmac", "digest_method": sha256},
            )
        return self._signing
