"""Gateways that send to a receiver as fast as it answers, in a process of their own: prints one JSON document.

Bodies are made by the gateway's own encoder before the clock starts. Each gateway is one connection, kept alive, and
sends its batches in order, each until it is answered 200, as an uploader does.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time

from gateway import wire
from gateway.messages import DeviceInfo, Row

EPOCH_UNIX_MS = 1_800_000_000_000
BOARDS_A_GATEWAY = 20
_PERIOD_MS = 1000


def bodies(gateway: str, batches: int, rows: int) -> list[tuple[dict[str, str], bytes]]:
    """Headers and bodies: in each batch the next rows of all boards of this gateway."""
    _, compress = wire.compressor("zstd")
    infos = {
        n: DeviceInfo(n, f"{gateway}-board-{n}", "room", (("temperature", "degC"),))
        for n in range(1, BOARDS_A_GATEWAY + 1)
    }
    each = rows // BOARDS_A_GATEWAY
    made = []
    for number in range(1, batches + 1):
        found = []
        for device in infos:
            for seq in range((number - 1) * each + 1, number * each + 1):
                value = 20_000 + seq * 7919 % 613 + device
                found.append(Row(device, 1, seq, 1, 0, value, 0, seq * _PERIOD_MS, EPOCH_UNIX_MS, 1, 0, seq))
        document = wire.document(gateway, number, "live", 1, rows, found, infos)
        body, digest = wire.encode(document, compress)
        headers = {
            "Content-Type": wire.CONTENT_TYPE,
            "Content-Encoding": "zstd",
            "Isotherm-Gateway": gateway,
            "Isotherm-Batch": str(number),
            "Isotherm-Digest": f"sha-256={digest}",
        }
        made.append((headers, body))
    return made


class Sender(threading.Thread):
    """One gateway."""

    def __init__(self, port: int, batches: list[tuple[dict[str, str], bytes]], begin: threading.Event) -> None:
        super().__init__()
        self._port = port
        self._batches = batches
        self._begin = begin
        self.waits_s: list[float] = []
        self.again = 0
        self.new = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._begin.wait()
        for headers, body in self._batches:
            sent_s = time.perf_counter()
            while True:
                connection.request("POST", "/v1/batches", body, headers)
                response = connection.getresponse()
                reply = json.loads(response.read())
                if response.status == 200:
                    break
                self.again += 1
            self.waits_s.append(time.perf_counter() - sent_s)
            self.new += reply["new"]
        connection.close()


def main() -> None:
    """Read the arguments, send all, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--run", type=int, required=True, help="part of the gateways' names, so that all rows are new")
    parser.add_argument("--gateways", type=int, required=True)
    parser.add_argument("--batches", type=int, required=True, help="of each gateway")
    parser.add_argument("--rows", type=int, required=True, help="of a batch")
    options = parser.parse_args()
    begin = threading.Event()
    names = [f"gw-{options.run}-{n}" for n in range(options.gateways)]
    senders = [Sender(options.port, bodies(name, options.batches, options.rows), begin) for name in names]
    for sender in senders:
        sender.start()
    began_s = time.perf_counter()
    begin.set()
    for sender in senders:
        sender.join()
    seconds = time.perf_counter() - began_s
    waits_s = [wait for sender in senders for wait in sender.waits_s]
    done = {"seconds": seconds, "new": sum(sender.new for sender in senders), "waits_s": waits_s}
    print(json.dumps(done | {"again": sum(sender.again for sender in senders)}))


if __name__ == "__main__":
    main()
