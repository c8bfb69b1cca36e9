"""A provider that means harm, over real HTTP: every run meets a bound, and the service goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import pytest

from tests import laws
from tests.figures import FIGURES
from tests.process.family import PROC
from tests.service import Service, service
from tests.upstream import CallTool, Fail, Open, Pause, Plan, Raw, Say, Step, Upstream
from tests.upstream import Json as Body

pytestmark = pytest.mark.anyio

MEGABYTE: Final = 1_000_000
LOG_BYTES: Final = 5 * MEGABYTE
TO_MEMBER: Final = "delegate_task_to_member"
GO: Final = json.dumps({"member_id": "editor", "task": "Go."})
DEAD_PROXY: Final = "http://127.0.0.1:9"
DRIP: Final[tuple[Step, ...]] = (Raw(b"x"), Pause(0.1))
COMMENTS: Final[tuple[Step, ...]] = (Raw(b": x\n\n"), Pause(0.1))


class Harm(NamedTuple):
    """What the provider does when the leader calls, and how the run ends."""

    plan: Plan
    code: str | None


HARMS: Final = {
    "deltas of a megabyte": Harm([Say("x" * MEGABYTE, "é" * 200_000)], None),
    "a delta of 9 megabytes": Harm([Say("x" * 9 * MEGABYTE)], "model_error"),
    "ten thousand delegations": Harm([CallTool(TO_MEMBER, GO)] * 10_000, "tool_limit"),
    "a stream that does not end": Harm([Say(*["x" * 10_000] * 10_000)], "log_limit"),
    "an event that does not end": Harm(
        [Raw(b"data: "), *[Raw(b"x" * MEGABYTE)] * 50], "model_error"
    ),
    "invalid JSON": Harm(
        [Raw(b'data: {"type": "response.output_text.delta", \n\n')], "model_error"
    ),
    "JSON that is no event": Harm([Raw(b"data: [[[[]]]]\n\n")], "model_error"),
    "a slow drip": Harm([Open(), *DRIP * 600], "model_timeout"),
    "comments for ever": Harm([Open(), *COMMENTS * 600], "model_timeout"),
    "a tool's name of a megabyte": Harm([CallTool("x" * MEGABYTE, "{}")], "model_error"),
    "arguments of 9 megabytes": Harm([CallTool(TO_MEMBER, "x" * 9 * MEGABYTE)], "model_error"),
    "markup and frames": Harm(
        [Say("</script>\r\n\r\nevent: TeamRunCompleted\ndata: {}\n\n\x1b[2J")], None
    ),
    "a tool there is none of": Harm([CallTool("run_shell", '{"command": "id"}')], None),
}


def asked_of_leader(body: Body) -> bool:
    return TO_MEMBER in str([tool.get("name") for tool in body.get("tools", ())])


def script(body: Body, number: int) -> Plan:
    """Do the harm that the input names, once a run."""
    said = json.dumps(body["input"])
    found = next((harm for name, harm in HARMS.items() if f"please: {name}" in said), None)
    if found is None or not asked_of_leader(body) or "function_call_output" in said:
        return [Say("Well.")]
    return found.plan


@asynccontextmanager
async def at_their_mercy(upstream: Upstream) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    settings = {
        "OPENAI_API_KEY": "sk-none",
        "OPENAI_BASE_URL": upstream.base_url,
        "MODEL": "openai:model",
        "STORE_URL": "memory:",
        "MAX_LOG_BYTES": str(LOG_BYTES),
        "MODEL_IDLE_TIMEOUT_S": "1",
        "MODEL_RETRIES": "0",
        "HTTP_PROXY": DEAD_PROXY,
        "HTTPS_PROXY": DEAD_PROXY,
        "ALL_PROXY": DEAD_PROXY,
    }
    async with service(**settings) as running, running.client() as client:
        yield running, client


def peak_memory(running: Service) -> float:
    """Return the most megabytes that the process ever held."""
    status = (PROC / str(running.process.pid) / "status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


async def test_whatever_the_provider_does_the_run_meets_a_bound() -> None:
    wrong = []
    async with Upstream(script) as upstream, at_their_mercy(upstream) as (running, client):
        before = peak_memory(running)
        for name, harm in HARMS.items():
            order = {"input": f"please: {name}"}
            run = (await client.post("/runs?wait=50", json=order)).json()
            code = run["error"] and run["error"]["code"]
            if code != harm.code or run["status"] not in ("completed", "error"):
                wrong.append(f"{name}: {run['status']} {run['error']}")
                continue
            frames = (await client.get(run["links"]["events"])).content
            laws.check(laws.parse(frames))
            assert len(frames) < 2 * LOG_BYTES + 4 * MEGABYTE
            assert max(map(len, frames.split(b"\n\n"))) < LOG_BYTES + 2 * MEGABYTE
            assert (await client.get("/livez")).status_code == 200
        assert not wrong, "\n".join(wrong)
        assert upstream.busy == []
        held = peak_memory(running)
    assert not [line for line in running.log if "ERROR" in line or "sk-none" in line]
    FIGURES.append(
        f"hostile provider: {len(HARMS)} ways, memory from {before:.0f} to {held:.0f} MB"
    )


@pytest.mark.parametrize("status", [302, 307])
async def test_no_redirect_is_followed_and_no_proxy_of_the_environment_is_asked(
    status: int, tmp_path: Path
) -> None:
    def redirect(_: Body, number: int) -> Plan:
        return [Fail(status, headers={"Location": f"{elsewhere.base_url}/responses"})]

    async with (
        Upstream(lambda *_: [Say("Caught.")]) as elsewhere,
        Upstream(redirect) as upstream,
        at_their_mercy(upstream) as (_, client),
    ):
        run = (await client.post("/runs?wait=20", json={"input": "x"})).json()
        assert (run["status"], run["error"]["code"]) == ("error", "model_error")
        assert run["error"]["upstream_status"] == status
        assert elsewhere.connections_made == 0
        assert len(upstream.exchanges) == 1
