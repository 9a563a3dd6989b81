"""A chip that waits for a program: the serial boot loader of an ESP32 family chip on a pty, with a flash in memory.

Answers as Espressif documents it (esptool documentation, "Serial Protocol": packets in SLIP frames, commands and
statuses), so that the unmodified esptool detects, erases, writes and verifies. Registers read as zero but for the one
that tells the chip. `dies_in` makes it fall silent at the n-th packet of a command.
"""

from __future__ import annotations

import hashlib
import os
import select
import struct
import threading
import tty
import zlib
from collections import Counter
from pathlib import Path

SYNC, MEM_END, READ_REG, SECURITY_INFO = 0x08, 0x06, 0x0A, 0x14
FLASH_BEGIN, FLASH_DATA = 0x02, 0x03
DEFL_BEGIN, DEFL_DATA, DEFL_END, MD5, ERASE_FLASH = 0x10, 0x11, 0x12, 0x13, 0xD0
MAGIC_REGISTER = 0x40001000
MAGIC = {"ESP32": 0x00F01D83}
CHIP_ID = {"ESP32-S3": 9, "ESP32-C3": 5}  # esp_chip_id_t, as image headers have it
_END, _ESC, _ESC_END, _ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
_FAILED = b"\x01\x05"  # status, and "received message is invalid"


class RomLoader:
    """One chip. commands: how often each was received. flash: its content."""

    def __init__(self, folder: Path, chip: str = "ESP32", flash_bytes: int = 4 << 20) -> None:
        self.chip = chip
        self.flash = bytearray(os.urandom(64)) + bytearray(flash_bytes - 64)  # something old lies there
        self.commands: Counter[int] = Counter()
        self.dies_in: tuple[int, int] | None = None  # (command, which packet of it)
        self.dead = False
        self._stub = False
        self._inflate = zlib.decompressobj()
        self._at = 0
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = str(folder / "ttyROM")
        Path(self.port).symlink_to(os.ttyname(self._slave))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        frame = bytearray()
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            for byte in os.read(self._master, 4096):
                if byte != _END:
                    frame.append(byte)
                elif frame:
                    self._packet(bytes(frame).replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb"))
                    frame = bytearray()

    def _packet(self, packet: bytes) -> None:
        direction, command, _, _ = struct.unpack_from("<BBHI", packet)
        if direction:
            return
        self.commands[command] += 1
        self.dead = self.dead or self.dies_in == (command, self.commands[command])
        if self.dead:
            return
        value, data = self._answer(command, packet[8:])
        if data is None:
            self._send(command, 0, _FAILED)
            return
        for _ in range(8 if command == SYNC else 1):
            self._send(command, value, data + bytes(2))
        if command == MEM_END and struct.unpack_from("<I", packet, 8)[0] == 0:
            self._stub = True
            self._write(b"OHAI")

    def _answer(self, command: int, body: bytes) -> tuple[int, bytes | None]:
        if command == SYNC:
            return 1, b""
        if command == READ_REG:
            address = struct.unpack_from("<I", body)[0]
            return (MAGIC.get(self.chip, 0) if address == MAGIC_REGISTER else 0), b""
        if command == SECURITY_INFO:
            if self.chip not in CHIP_ID:
                return 0, None
            return 0, struct.pack("<IB7xII", 0, 0, CHIP_ID[self.chip], 0)
        if command == ERASE_FLASH:
            self.flash[:] = b"\xff" * len(self.flash)
        elif command == DEFL_BEGIN:
            self._inflate = zlib.decompressobj()
            self._at = struct.unpack_from("<4I", body)[3]
        elif command == FLASH_BEGIN:
            self._at = struct.unpack_from("<4I", body)[3]
        elif command in (DEFL_DATA, FLASH_DATA):
            content = self._inflate.decompress(body[16:]) if command == DEFL_DATA else body[16:]
            self.flash[self._at : self._at + len(content)] = content
            self._at += len(content)
        elif command == MD5:
            address, size = struct.unpack_from("<2I", body)
            return 0, hashlib.md5(self.flash[address : address + size]).digest()
        return 0, b""

    def _send(self, command: int, value: int, data: bytes) -> None:
        if not self._stub:
            data += bytes(2)  # the ROM's status has four bytes, the stub's two
        self._write(struct.pack("<BBHI", 1, command, len(data), value) + data)

    def _write(self, packet: bytes) -> None:
        os.write(self._master, b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")
