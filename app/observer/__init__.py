"""What happens to runs, told to whoever counts, logs or traces it.

The runtime and the API tell; what becomes of it only `telemetry` knows. Told are kinds of work,
which begin and end (a run, a member's part in it, a model call, a tool call), and facts between.
All of it is rare next to the deltas of a run. What is told for each of those, `appended`, is two
numbers, and a model call's first token is the only thing looked for among them.

Ids in here come from the teams file: a tool that a model made up is `UNKNOWN`. Prompts, answers and
arguments are never told.
"""
