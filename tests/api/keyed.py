"""A service with keys: two tenants, a client for each, and a run of each that never ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.api.services import ApiLimits
from app.api.tickets import Tickets
from app.domain.access import ApiKey, Keys
from app.ports import Store
from app.runtime.runner import Capacity
from app.stores.memory import MemoryStore
from tests.api.serving import Served, services_for, serving
from tests.runtime.playing import Cast, saying

KEY_OF = {"acme": "key-of-acme", "rival": "key-of-rival"}
KEYS = Keys(ApiKey.read(f"{tenant}:{key}") for tenant, key in KEY_OF.items())


@dataclass
class Keyed:
    """A served API with keys."""

    served: Served
    tickets: Tickets
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    async def start(self, tenant: str, **body: Any) -> dict[str, Any]:
        """Start a run of a tenant; return it."""
        answer = await self.clients[tenant].post("/runs", json={"input": "Hello.", **body})
        assert answer.status_code == 202, answer.text
        run: dict[str, Any] = answer.json()
        return run


@asynccontextmanager
async def keyed(
    cast: Cast | None = None,
    *,
    store: Store | None = None,
    capacity: Capacity | None = None,
    limits: ApiLimits | None = None,
    now: Callable[[], float] | None = None,
) -> AsyncIterator[Keyed]:
    store = store or MemoryStore()
    tickets = Tickets(store) if now is None else Tickets(store, now=now)
    services = services_for(
        cast or Cast(saying("Once ", "upon ", "a time.")),
        store=store,
        capacity=capacity,
        limits=limits or ApiLimits(allowed_hosts=None),
        keys=KEYS,
        tickets=tickets,
    )
    async with serving(services=services) as served:
        made = Keyed(served, tickets)
        for tenant, key in KEY_OF.items():
            made.clients[tenant] = served.client_with(Authorization=f"Bearer {key}")
        try:
            yield made
        finally:
            for client in made.clients.values():
                await client.aclose()
