"""The child process that serves the bundled model: `python local_server.py PARENT WEIGHTS`.

A process of its own, so that native code cannot take the service down, and a file that imports
nothing of ours, so that it starts fast and reads no settings. Its only line on stdout is the
address it serves, once it can answer; everything else it or llama.cpp has to say goes to stderr.

It never outlives the service: Linux kills it with its parent, and everywhere the end of its stdin,
which only the parent holds, ends it. It ignores SIGTERM and SIGINT, which a supervisor sends to
every process of the service at once: the runs that are being drained still need it.
"""

import ctypes
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TextIO

SLOTS: Final = 2
SLOT_TOKENS: Final = 8192
"""What one call may read and write together: all that SmolLM2 was trained for."""

_PR_SET_PDEATHSIG: Final = 1


def main(parent: int, weights: str) -> None:
    """Serve until stdin ends. `parent` is the id of the process that must still be there."""
    for ignored in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    _end_with(parent)
    hello = _claim_stdout()
    # A variable name, for the type checker: the wheel has no types, and may not be installed.
    xllamacpp: Any = import_module("xllamacpp")
    server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), weights))
    hello.write(f"{server.listening_address}\n")
    hello.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # at once: the native threads' own goodbye waits for running answers


def _end_with(parent: int) -> None:
    """Have the system end this process when its parent ends, and end now if that has happened."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def _claim_stdout() -> TextIO:
    """Return stdout, and send what others write there, native code included, to stderr."""
    hello = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return hello


def _parameters(params: Any, weights: str) -> Any:
    """Fill in llama.cpp's parameters."""
    params.model.path = weights
    params.model_alias = {"smollm2"}
    params.chat_template = Path(__file__).with_name("local.jinja").read_text("utf-8")
    params.use_jinja = True
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS  # it is divided among the slots
    params.cpuparams.n_threads = 1  # two collapse on a busy machine
    params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.endpoint_slots = True
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.offline = True
    params.ui = False
    params.sampling.seed = 7  # the same question, the same answer
    params.sampling.penalty_repeat = 1.15  # without these two a story goes in circles
    params.sampling.penalty_last_n = 256
    return params


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
