from __future__ import annotations

import pytest

from tests.api.serving import serving
from tests.runtime.playing import Cast, delegating_to, saying

pytestmark = pytest.mark.anyio


async def test_a_team_is_told_without_its_instructions() -> None:
    cast = Cast(delegating_to("writer"), {"writer": saying("x")})
    async with serving(cast) as served:
        team = (await served.client.get("/teams/team")).json()
        writer = {"id": "writer", "name": "Writer", "description": "", "model": "scripted:"}
        assert team == {
            "id": "team",
            "name": "Team",
            "description": "",
            "model": "scripted:",
            "mode": "coordinate",
            "members": [writer],
        }
        assert (await served.client.get("/teams")).json() == {"teams": [team]}
