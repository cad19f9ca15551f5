"""`python -m aicostguard.simulator`: the simulator on its own, for programs in any language.

Prints one line of JSON, `{"urls": {provider: url}, "AICG_HOSTS": "…"}`, and runs until SIGTERM or SIGINT.
Exit status: 0 when stopped, 1 when a port is taken, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from typing import List, Optional

from aicostguard.simulator import ALL, Simulator


def main(arguments: Optional[List[str]] = None) -> int:
    """Run until told to stop; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m aicostguard.simulator", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="first port, the others follow (default: any free ones)")
    parser.add_argument("--providers", default=",".join(ALL), help="comma-separated (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        simulator = Simulator(
            [name.strip() for name in options.providers.split(",") if name.strip()], options.host, options.port
        )
    except ValueError as error:
        parser.error(str(error))
    last = 65_535 - len(simulator.providers)
    if not 0 <= options.port <= last:
        parser.error("--port takes 0 to %d, not %d: each provider has one" % (last, options.port))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        simulator.start()
    except OSError as error:
        sys.stderr.write("cannot listen: %s\n" % error)
        return 1
    sys.stdout.write(json.dumps({"urls": simulator.urls, "AICG_HOSTS": simulator.hosts_setting()}) + "\n")
    sys.stdout.flush()
    stopped.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
