"""One run of an analysis in a process of its own: niced, apart from the daemon's interpreter, ended when it is late.

    python -m gateway.analyst STORE < request > outcome

Standard input holds a request as the uplink carries it; the first line of standard output is the outcome (windows'
print and result), the second the processor time in s. It reads the store, writes nothing, and knows no network.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gateway.store.analyses import AnalysisReader
from isocore.analysis import Sensor, analyse, encode

_NICE = 19


def outcome(reader: AnalysisReader, request: dict[str, Any]) -> dict[str, Any]:
    """The windows' print and the result's text, both of one moment. Raises StoreUnusable."""
    length_s, start_s, first_s = request["length_s"], request["start_s"], request["first_s"]
    span = (length_s, first_s, start_s + 1)
    reader.begin()
    try:
        numbers = reader.numbers([device for device, _ in request["sensors"]])
        places = [(numbers[device], channel) for device, channel in request["sensors"] if device in numbers]
        found = reader.print_of(places, *span)
        sensors = [
            Sensor(
                f"{device}/{channel}",
                reader.means(numbers[device], channel, *span) if device in numbers else {},
                request["low_milli"],
                request["high_milli"],
            )
            for device, channel in request["sensors"]
        ]
    finally:
        reader.end()
    result = encode(analyse(sensors, length_s, start_s), length_s, start_s)
    return {"windows": list(found), "result": result.decode()}


def main() -> int:
    with suppress(OSError):  # a sandbox may forbid it; then the time limit is the bound
        os.nice(_NICE)
    request = json.load(sys.stdin)
    with closing(AnalysisReader(Path(sys.argv[1]))) as reader:
        made = outcome(reader, request)
    print(json.dumps(made, separators=(",", ":")))
    print(time.process_time())
    return 0


if __name__ == "__main__":
    sys.exit(main())
