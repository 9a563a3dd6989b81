"""The parts of a run and how they are wired: broker, receiver, gateway, virtual boards, all on loopback.

Starts, stops and kills them, and looks at them from outside. It knows no timeline.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from host_tools.demo.links import Links, PlainLinks, SecureLinks
from host_tools.demo.plan import EPOCH_UNIX_S, FLEET, GATEWAY_ID, STROBE_PIN, BoardPlan, Plan
from host_tools.demo.processes import Child, ProcessError, accepts_connections, broker_program, free_port
from host_tools.errors import HostError
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import Interpreter, find_micropython
from host_tools.virtual.spec import BoardSpec, load_hardware

ROOT = Path(__file__).resolve().parents[2]
UMQTT = ROOT / ".tools" / "umqtt"
DISK_BYTES_MIN = 200_000_000
DISK_BYTES_PER_BOARD = 2_000_000

_GATEWAY_CONF = """\
[gateway]
id = "{gateway_id}"
data_dir = "store"

[mqtt]
host = "127.0.0.1"
port = {broker_port}
backoff_max_s = 0.5
{mqtt}
[metrics]
listen = "127.0.0.1:{status_port}"

[sinks.cloud]
type = "https"
url = "{scheme}://127.0.0.1:{cloud_port}"
live_age_s = {live_age_s}
backoff_base_s = 0.2
backoff_max_s = 1.0
{sink}
{more}"""


def check_disk(folder: Path, boards: int) -> None:
    """Raises HostError when the disk under `folder` could fill up during a run."""
    need = DISK_BYTES_MIN + boards * DISK_BYTES_PER_BOARD
    free = shutil.disk_usage(folder).free
    if free < need:
        raise HostError(
            f"{folder}: only {free // 1_000_000} MB free, a run needs {need // 1_000_000} MB; free some or set TMPDIR"
        )


class Stack:
    """Everything that runs. A context manager: leaving it stops all, whatever happened."""

    def __init__(self, plan: Plan, workdir: Path, live_age_s: float = 2.5, *, plaintext: bool = False) -> None:
        self.plan = plan
        self.workdir = workdir
        self.broker_port = free_port()
        self.cloud_port = free_port()
        self.status_port = free_port()
        self.cloud_dir = workdir / "cloud"
        self.gateway_config = workdir / "gateway.toml"
        self._interpreter: Interpreter | None = None
        self._program = broker_program()
        self._pid_file = workdir / "mosquitto.pid"
        self.links = self._make_links(plaintext)
        self.broker = Child("mosquitto", [self._program], workdir / "broker.log")
        self.receiver = Child("the receiver", self._receiver_command(), workdir / "receiver.log")
        self.gateway = Child(
            "the gateway",
            [sys.executable, "-m", "gateway.cli", "run", "--config", str(self.gateway_config)],
            workdir / "gateway.log",
        )
        self.fleet = VirtualFleet()
        self.boards: dict[str, VirtualBoard] = {}
        self._write_configurations(live_age_s)

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.fleet.close()
        finally:
            for child in (self.gateway, self.receiver, self.broker):
                child.stop(timeout_s=5.0)

    def _make_links(self, plaintext: bool) -> Links:
        if plaintext:
            return PlainLinks(self.workdir, self.broker_port)
        if not self.interpreter.tls:
            raise HostError(
                f"{shlex.join(self.interpreter.command)} has no TLS, which boards of a fleet need: run `make setup`, "
                "or name a standard build of MicroPython in MICROPYTHON"
            )
        count = len(self.plan.boards)
        return SecureLinks(self.workdir, FLEET, GATEWAY_ID, self._program, self.broker_port, count, self._pid_file)

    def _receiver_command(self) -> list[str]:
        port = str(self.cloud_port)
        command = [sys.executable, "-m", "host_tools.cli", "cloud", "serve", "--data", str(self.cloud_dir)]
        return [*command, "--port", port, *self.links.receiver_options]

    def _write_configurations(self, live_age_s: float) -> None:
        mqtt, sink, more = self.links.gateway_tables()
        text = _GATEWAY_CONF.format(
            gateway_id=GATEWAY_ID,
            broker_port=self.broker_port,
            status_port=self.status_port,
            cloud_port=self.cloud_port,
            live_age_s=live_age_s,
            scheme=self.links.scheme,
            mqtt=mqtt,
            sink=sink,
            more=more,
        )
        self.gateway_config.write_text(text, encoding="ascii")

    @property
    def interpreter(self) -> Interpreter:
        """The MicroPython of the boards. Raises its own clear error when there is none."""
        if self._interpreter is None:
            self._interpreter = find_micropython(root=ROOT)
        return self._interpreter

    # ---- starting

    def start_services(self) -> None:
        """Broker, receiver and gateway, each ready before the next; the broker must know the boards by then."""
        self.broker.command = [self._program, "-c", str(self.links.broker_conf())]
        self.broker.start(accepts_connections(self.broker_port))
        self._pid_file.write_text(f"{self.broker.pid}\n", encoding="ascii")
        self.start_receiver()
        self.start_gateway()

    def start_receiver(self) -> None:
        self.receiver.start(accepts_connections(self.cloud_port), timeout_s=30.0)

    def start_gateway(self) -> None:
        self.gateway.start(lambda: self.gateway_status() is not None, timeout_s=30.0)

    def make_boards(self) -> None:
        """A flash image, a rows file and a simulated chip for each board; none is powered on yet."""
        if not (UMQTT / "umqtt" / "simple.py").is_file():
            raise HostError("umqtt.simple is missing: run `make setup`")
        builder = ImageBuilder(self.interpreter, ROOT / ".tools" / "images")
        master = builder.master(ROOT / "firmware", [UMQTT])
        hardware = load_hardware()
        files = []
        for board in self.plan.boards:
            folder = self.workdir / "boards" / board.name
            folder.mkdir(parents=True)
            board.write_rows(folder / "rows.csv")
            spec = self._spec(board, folder)
            virtual = VirtualBoard(spec, folder, self.interpreter, self.fleet, hardware)
            self.boards[board.name] = virtual
            files.append(BoardFiles(virtual.flash_path, spec.flash_files()))
        builder.make_boards(master, files)

    def _spec(self, board: BoardPlan, folder: Path) -> BoardSpec:
        configuration, secrets = self.links.board(board.configuration())
        return BoardSpec(
            device=board.name,
            config=configuration,
            files=secrets,
            rows=folder / "rows.csv",
            devices=board.devices(),
            strobe_pin=STROBE_PIN,
            speed=board.speed,
            epoch_s=EPOCH_UNIX_S,
            wifi=configuration["wifi"],
        )

    def start_boards(self) -> None:
        """Power on."""
        for board in self.boards.values():
            board.start()

    # ---- looking

    def gateway_status(self) -> dict[str, Any] | None:
        """The gateway's /status document, or None while it is away."""
        with suppress(OSError, ValueError, urllib.error.URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.status_port}/status", timeout=2.0) as reply:
                document = json.load(reply)
            if isinstance(document, dict):
                return document
        return None

    def check_alive(self, *, gateway: bool, receiver: bool) -> None:
        """Raises ProcessError when a part that should run has stopped by itself."""
        for child, wanted in ((self.broker, True), (self.gateway, gateway), (self.receiver, receiver)):
            if wanted and not child.running:
                raise ProcessError(f"{child.name} stopped by itself: {child.last_line()}")
        for name, board in self.boards.items():
            if not board.running or board.restarts:
                what = "reset" if board.running else "stopped"
                said = board.log[-1] if board.log else "it printed nothing"
                raise ProcessError(f"board {name} {what} by itself: {said}")

    def gateway_counts(self) -> dict[str, Any]:
        """What `isotherm-gateway ledger --json` counts; works while the daemon is down."""
        command = [sys.executable, "-m", "gateway.cli", "ledger", "--json", "--config", str(self.gateway_config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise ProcessError(f"the gateway's ledger cannot be read: {done.stderr.strip()[:300]}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document
