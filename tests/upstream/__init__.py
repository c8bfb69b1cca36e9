"""A model provider on a loopback port that does as it is told, and says what became of it.

    def script(body: Json, number: int) -> Plan:
        return [Say("Once", " upon"), hold, Say(" a time")]

    async with Upstream(script) as upstream:
        ...                                     # call the model at upstream.base_url
        exchange = await upstream.arrived(1)    # requests count from 1
        await exchange.wrote(2)                 # two deltas are on the wire
        ...                                     # stop the run
        await exchange.closed()                 # the client has left; returns when

It speaks the Responses API and Chat Completions: the same steps, as the request's path wants them.

It is a real HTTP/1.1 server on raw asyncio: it reads its sockets at all times, so it notices a
client's leaving in silence too, and keeps connections alive after complete replies. A reply begins
(status line, headers, a first event without text) with the first step that writes, so a plan that
begins with `Hold()` is silent before the headers and one with `Open(), Hold()` after them.
"""

from tests.upstream.asked import instructions_of, results_of
from tests.upstream.exchange import Exchange
from tests.upstream.replies import LOCAL, Omissions
from tests.upstream.server import Upstream
from tests.upstream.steps import (
    CallTool,
    Cut,
    Drop,
    End,
    Fail,
    Hold,
    Json,
    Open,
    Pause,
    Plan,
    Raw,
    Refuse,
    Say,
    Script,
    Step,
    Think,
    in_turn,
)

__all__ = [
    "LOCAL",
    "CallTool",
    "Cut",
    "Drop",
    "End",
    "Exchange",
    "Fail",
    "Hold",
    "Json",
    "Omissions",
    "Open",
    "Pause",
    "Plan",
    "Raw",
    "Refuse",
    "Say",
    "Script",
    "Step",
    "Think",
    "Upstream",
    "in_turn",
    "instructions_of",
    "results_of",
]
