"""The command line: `team-runs serve`, `team-runs demo`, `team-runs openapi`.

Exit statuses: 0 as asked, 1 not as asked, 2 a setting or an option is wrong (one line on standard
error says which), 130 after Ctrl-C, 141 when whoever reads the output stops (`| head`), as a shell
tells it of a program that SIGPIPE ends.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence

import anyio
from fastapi import FastAPI

from app.demo import DEFAULT_DELAY_S, DEFAULT_INPUT, Options, run_demo
from app.domain.errors import ConfigurationError
from app.main import create_app
from app.server import serve
from app.settings import PREFIX, Settings, load_settings, unknown_variables
from app.startup import check, summary
from app.telemetry.logging import configure_logging

log = logging.getLogger("app")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status = int(arguments.command(arguments))
        sys.stdout.flush()
    except ConfigurationError as error:
        sys.stderr.write(f"team-runs: {error}\n")
        return 2
    except BrokenPipeError:
        _give_up_output()
        return 128 + signal.SIGPIPE
    return status


def _give_up_output() -> None:
    """Let what is left in the buffer go nowhere: Python writes it when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def _serve(arguments: argparse.Namespace) -> int:
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    sys.path.insert(0, "")  # tools of the teams file may lie in the folder one starts in
    for name in unknown_variables():
        log.warning("%s is not a setting of this service", name)
    application = create_app(settings)
    lines = summary(settings, application.state.services.teams, application.state.models)
    if arguments.check:
        return _check(application, lines)
    for line in lines:
        log.info("%s", line)
    serve(application, settings)
    return 0


def _check(application: FastAPI, lines: Sequence[str]) -> int:
    """Tell what the service is set to, then of each part whether it can be had."""

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    for line in lines:
        tell(line)
    store, models = application.state.services.store, application.state.models
    is_well = anyio.run(check, store, models, tell)
    tell("all is well" if is_well else "not all is well")
    return 0 if is_well else 1


def _demo(arguments: argparse.Namespace) -> int:
    delay_s = None if arguments.no_cancel else arguments.delay
    return run_demo(Options(arguments.input, arguments.team, arguments.url, arguments.key, delay_s))


def _openapi(_: argparse.Namespace) -> int:
    any_settings = Settings.model_construct(model="scripted:")  # the document depends on none
    document = create_app(any_settings).openapi()
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="team-runs",
        description="Runs a team of LLM agents over HTTP, streams the run, and stops it the moment"
        f" somebody asks. Settings are environment variables with the prefix {PREFIX}.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    server = commands.add_parser("serve", help="run the server")
    server.add_argument(
        "--check", action="store_true", help="try settings, teams, store and models, and end"
    )
    server.set_defaults(command=_serve)
    _add_demo(commands.add_parser("demo", help="start a run, watch it, cancel it"))
    openapi = commands.add_parser("openapi", help="print the API's description")
    openapi.set_defaults(command=_openapi)
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="use this server; without it, the demo starts its own")
    parser.add_argument("--key", help="the key for that server")
    parser.add_argument("--team", help="the team's id; without it, the first in the teams file")
    parser.add_argument("--input", default=DEFAULT_INPUT, help="what the team is asked for")
    parser.add_argument("--no-cancel", action="store_true", help="let the run finish")
    parser.add_argument(
        "--delay",
        type=_seconds,
        default=DEFAULT_DELAY_S,
        metavar="SECONDS",
        help="how long after the start the run is cancelled (default: %(default)g)",
    )
    parser.set_defaults(command=_demo)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError("a number of seconds, 0 or more, was expected")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
