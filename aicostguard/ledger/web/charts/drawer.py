"""The process that draws: one order on stdin, a picture on stdout. Started by `draw` and `bundle`, by its path.

A JavaScript engine runs in here, with whatever memory and time it takes; it ends with this process, and the ledger
never holds it. Imports nothing of the ledger's.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys

#: bytes of private memory, and seconds of work
MEMORY, SECONDS = 2 << 30, 30


def main() -> int:
    order = json.load(sys.stdin)
    try:
        import vl_convert
    except ImportError:
        return 3
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    if order["make"] == "bundle":
        made = gzip.compress(vl_convert.javascript_bundle(order["snippet"]).encode(), 9, mtime=0)
    elif order["make"] == "svg":
        # No address may be asked for anything: all that is drawn stands in the drawing.
        made = vl_convert.vegalite_to_svg(order["spec"], allowed_base_urls=[]).encode()
    else:
        made = vl_convert.vegalite_to_png(order["spec"], scale=order["scale"], allowed_base_urls=[])
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
