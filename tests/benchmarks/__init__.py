"""What the service costs, beside a bare pipe, a naive service and agno's AgentOS.

```
client (raw asyncio) ─> server on a core of its own ─> upstream (raw asyncio, the client's process)
```

Run from the project's folder, on a machine with two cores that does nothing else:

- `python -m tests.benchmarks`: the comparison, cancels, first event, cold start; six minutes
- `python -m tests.benchmarks --full`: everything the table has; about an hour
- `--only WORD`: the parts whose names begin with it, those of the full form too
- `--rounds N`: medians of so many (5, or 3 of what takes minutes)
- `--json FILE`: the result for machines, from which `plot.py` draws the picture of the README;
  each row says of which commit it is, and parts that were not measured this time stay as they are

`python -m tests.benchmarks.table FILE --into README.md` writes the aims, and what became of them,
into the README; without `--into` it prints them. The README's are those of `result.json`.

AgentOS, py-spy and matplotlib are of the extra `benchmarks`. The first two are looked for in an
environment of its own, and where there is none, their rows are left out and the output says so:

    python3 -m venv build/agentos && build/agentos/bin/pip install '.[benchmarks]'

Nothing is asserted: figures belong to a machine, and only the ratios travel.
"""
