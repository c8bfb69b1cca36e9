"""Two tenants, every route, whatever is shown and whosever the run is: one table of the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pytest

from tests.api.keyed import KEY_OF
from tests.api.tenants import ROUTES, TENANTS, Fields, Scene, sent, two_at_work
from tests.figures import FIGURES

pytestmark = pytest.mark.anyio

WHOSE: Final = ("own", "foreign", "unknown")
SHOWN: Final = (
    "own key",
    "ticket",
    "expired ticket",
    "other run's ticket",
    "no key",
    "wrong key",
    "10 KB key",
    "non-ASCII key",
)
WRONG_KEYS: Final[Mapping[str, Fields]] = {
    "wrong key": [(b"Authorization", b"Bearer key-of-nobody")],
    "10 KB key": [(b"Authorization", b"Bearer " + b"k" * 10_240)],
    "non-ASCII key": [(b"Authorization", "Bearer schlüssel-🔑".encode())],
}
WITH_OWN_KEY: Final = {
    # what the route is about, by whose run it is: own, foreign, unknown
    "POST /runs": (202, 202, 202),
    "GET /runs": (200, 200, 200),
    "DELETE /runs": (202, 202, 202),
    "GET /runs/{run_id}": (200, 404, 404),
    "DELETE /runs/{run_id}": (202, 404, 404),
    "GET /runs/{run_id}/events": (200, 404, 404),
    "GET /metrics": (404, 404, 404),  # the tenant `operator` alone sees it
    "GET /teams": (200, 200, 200),
    "GET /teams/{team_id}": (200, 200, 200),
}


def rows() -> Iterator[tuple[str, str, str, str, int]]:
    """Yield method, path, what is shown, whose run it is, and the status."""
    for method, path in ROUTES:
        seen_as = f"{'GET' if method == 'HEAD' else method} {path}"
        for shown in SHOWN:
            for place, whose in enumerate(WHOSE):
                opens = shown == "ticket" and path.endswith("/events") and whose == "own"
                status = WITH_OWN_KEY[seen_as][place] if shown == "own key" else 401
                yield method, path, shown, whose, 200 if opens else status


TABLE: Final = sorted(rows(), key=lambda row: (row[0] == "DELETE", row[1] == "/runs"))
"""Stops come last: they change what the others see."""

QUERY_OF: Final = {("DELETE", "/runs"): "?session_id=s"}
LATER_S: Final = 3700
"""When every ticket has expired."""


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with two_at_work() as made:
        yield made


@dataclass
class Asking:
    """A tenant, or somebody with a ticket of its, or nobody, who asks for everything."""

    scene: Scene
    tenant: str
    tickets: Mapping[str, str]

    async def answer(self, method: str, url: str, shown: str) -> tuple[int, bytes]:
        """Send a request; return its status and, for a refusal, its body."""
        fields: Fields = WRONG_KEYS.get(shown, [])
        if shown == "own key":
            fields = [(b"Authorization", f"Bearer {KEY_OF[self.tenant]}".encode())]
        if shown in self.tickets:
            url += f"{'&' if '?' in url else '?'}ticket={self.tickets[shown]}"
        self.scene.time.ahead_s = LATER_S if shown == "expired ticket" else 0
        client = self.scene.anybody()
        answer = await client.send(sent(client, method, url, headers=fields), stream=True)
        body = await answer.aread() if answer.status_code >= 400 else b""
        await answer.aclose()
        return answer.status_code, body


async def asking(scene: Scene, tenant: str) -> Asking:
    good = scene.run_of[tenant]["links"]["events"].partition("ticket=")[2]
    another = (await scene.keyed.start(tenant))["links"]["events"].partition("ticket=")[2]
    tickets = {"ticket": good, "expired ticket": good, "other run's ticket": another}
    return Asking(scene, tenant, tickets)


@pytest.mark.parametrize(("tenant", "other"), TENANTS)
async def test_every_answer_is_that_of_the_table(scene: Scene, tenant: str, other: str) -> None:
    ids = {"own": scene.run_of[tenant]["run_id"], "foreign": scene.run_of[other]["run_id"]}
    who = await asking(scene, tenant)
    refusals: dict[str, set[bytes]] = {}
    wrong = []
    for method, path, shown, whose, status in TABLE:
        run_id = ids.get(whose, str(uuid4()))
        url = path.format(run_id=run_id, team_id="team") + QUERY_OF.get((method, path), "")
        answered, body = await who.answer(method, url, shown)
        if answered != status:
            wrong.append(f"{method} {path} {shown} {whose}: {answered}, not {status}")
        if answered >= 400:
            same = refusals.setdefault(f"{method} {path} {answered}", set())
            same.add(body.replace(run_id.encode(), b"ID"))
    assert not wrong, "\n".join(wrong)
    assert {len(bodies) for bodies in refusals.values()} == {1}  # the same, byte for byte
    theirs = await scene.keyed.served.run(ids["foreign"])
    assert theirs.cancel is None
    FIGURES.append(
        f"who may what, as {tenant}: {len(TABLE)} requests, each with the table's answer"
    )
