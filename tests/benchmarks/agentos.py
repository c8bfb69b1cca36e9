"""agno's AgentOS with the same team, as its documentation has it; telemetry off, no database.

Run as `python -m tests.benchmarks.agentos PORT UPSTREAM_PORT`, where the extra `benchmarks` is
installed. agno is looked up by name because the tests' own environment does not have it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import uvicorn


def build(upstream_port: int) -> Any:
    """Return the application."""
    responses = import_module("agno.models.openai").OpenAIResponses
    agent, team = import_module("agno.agent").Agent, import_module("agno.team").Team
    model = {"id": "m", "api_key": "none", "base_url": f"http://127.0.0.1:{upstream_port}/v1"}
    members = [
        agent(id=name, name=name, role=role, model=responses(**model), telemetry=False)
        for name, role in (("storyteller", "writes stories"), ("editor", "reviews stories"))
    ]
    storytelling = team(
        id="storytelling",
        name="Storytelling Team",
        model=responses(**model),
        members=members,
        stream_member_events=True,
        telemetry=False,
    )
    system = import_module("agno.os").AgentOS(teams=[storytelling], telemetry=False)
    return system.get_app()


if __name__ == "__main__":
    uvicorn.run(
        build(int(sys.argv[2])),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        backlog=4096,
        log_level="error",
    )
