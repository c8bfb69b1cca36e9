"""The teams that can be asked to run."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from app.api.callers import Calling
from app.api.problems import Json
from app.api.services import Given
from app.api.views import team_view
from app.domain.errors import TeamNotFound

router = APIRouter()


@router.head("/teams", include_in_schema=False)
@router.get("/teams")
async def list_teams(services: Given, _: Calling) -> Response:
    """List the teams, in the order of the teams file; the first one is the default."""
    views = [team_view(team, services.default_model) for team in services.teams.values()]
    return Json({"teams": views})


@router.head("/teams/{team_id}", include_in_schema=False)
@router.get("/teams/{team_id}")
async def read_team(team_id: str, services: Given, _: Calling) -> Response:
    """Return one team."""
    team = services.teams.get(team_id)
    if team is None:
        raise TeamNotFound("there is no team with this id")
    return Json(team_view(team, services.default_model))
