"""`python -m tests.support.clocked FILE run --config ...`: the gateway's program under a wall clock that FILE sets.

FILE holds seconds to add to the real time; it may change while the program runs. Monotonic time is left alone.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main() -> None:
    """Bend the clock before anything of the gateway is imported, then be the gateway."""
    source = Path(sys.argv.pop(1))
    real = time.time

    def bent() -> float:
        return real() + float(source.read_text(encoding="ascii"))

    time.time = bent
    from gateway.cli import main as gateway

    gateway()


if __name__ == "__main__":
    main()
