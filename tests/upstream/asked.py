"""What a request says, read the same way out of either API's body."""

from __future__ import annotations

from tests.upstream.steps import Json


def instructions_of(body: Json) -> str:
    """What the model is told to be; empty if it is told nothing."""
    if "messages" not in body:
        return str(body.get("instructions") or "")
    first = body["messages"][:1]
    return "".join(message["content"] for message in first if message["role"] == "system")


def results_of(body: Json) -> list[str]:
    """The results of tool calls, in order."""
    if "messages" not in body:
        return [item["output"] for item in body["input"] if "output" in item]
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]
