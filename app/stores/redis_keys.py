"""The names of everything that a Redis store keeps.

| key | what it holds |
|---|---|
| `tr:{RUN}:run` | hash: request, owner, fence, last, snapshot and its place; at the end, status |
| `tr:{RUN}:log` | list: the frames; the one with the seq n has the index n - 1 |
| `tr:{RUN}:flags` | hash: cancellation flags by run id, the team's and the members' |
| `tr:{RUN}:members` | hash: member run ids; 1 while the member works, 0 when it has ended |
| `tr:{RUN}:news` | channel: the place of the newest frame, or nothing |
| `tr:member:ID` | the id of the team run that has this member run |
| `tr:key:TENANT:KEY` | the id of the run with this idempotency key |
| `tr:replica:ID` | channel: the id of a run of this replica of which a flag went up |
| `tr:owned:ID` | sorted set: the unfinished runs of a replica, by number |
| `tr:replicas` | sorted set: the replicas by the time when their leases end, in milliseconds |
| `tr:index:TENANT:…` | sorted sets: what lists go through, run ids by number |
| `tr:finished` | sorted set: finished runs by the time of their end, in milliseconds |
| `tr:secret:NAME` | 32 random bytes, made once |
| `tr:number` | the number of the newest run: they count creations, and lists go by them |

The keys of one run share a hash tag, and a script touches the keys of one run only: so a cluster
could hold them. Whatever spans runs (indexes, owned runs) is written beside, in an order that
leaves nothing lost when the writer dies in between, and put right by `claim_abandoned`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

REPLICAS: Final = "tr:replicas"
FINISHED: Final = "tr:finished"
NUMBER: Final = "tr:number"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run."""

    run_id: str
    run: str = field(init=False)
    log: str = field(init=False)
    flags: str = field(init=False)
    members: str = field(init=False)
    news: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("run", "log", "flags", "members"):
            object.__setattr__(self, name, f"tr:{{{self.run_id}}}:{name}")
        object.__setattr__(self, "news", news_of(self.run_id))


def news_of(run_id: str) -> str:
    """Return the channel on which a run's readers are told to look."""
    return f"tr:{{{run_id}}}:news"


def run_of_news(channel: str) -> str:
    """Return the id of the run whose channel this is."""
    return channel[len("tr:{") : -len("}:news")]


def member(run_id: str) -> str:
    """Return the key that leads from a member run to its team run."""
    return f"tr:member:{run_id}"


def idempotency(tenant: str, key: str) -> str:
    """Return the key that leads from an idempotency key to its run; tenants have no colon."""
    return f"tr:key:{tenant}:{key}"


def secret(name: str) -> str:
    """Return the key of a secret."""
    return f"tr:secret:{name}"


def replica(replica_id: str) -> str:
    """Return the channel on which a replica is told of flags."""
    return f"tr:replica:{replica_id}"


def owned(replica_id: str) -> str:
    """Return the key of a replica's unfinished runs."""
    return f"tr:owned:{replica_id}"


def index(tenant: str, kind: str, value: str = "") -> str:
    """Return the key of an index: `all`, `team`, `session`, or `status` (`open` until the end)."""
    return f"tr:index:{tenant}:{kind}:{value}"
