"""Runs on MicroPython: prints the names of all attributes of its built-in types and modules."""

import array
import builtins
import hashlib
import io
import re
import select
import socket
import sys

import tls

names = set()


def add(thing):
    for name in dir(thing):
        names.add(name)


def generator():
    yield 1


add(builtins)
for made in (1, 1.0, "", b"", bytearray(1), memoryview(b""), [], {}, (), set(), frozenset(), range(1), object()):
    add(made)
for made in (generator, generator(), Exception(), OSError(1), type, property, staticmethod, classmethod, {}.keys()):
    add(made)
MODULES = "array binascii builtins collections cryptolib deflate errno framebuf gc hashlib heapq io json machine math"
MODULES += " micropython os platform random re select socket ssl struct sys time tls uctypes vfs"
for name in MODULES.split():
    try:
        module = __import__(name)
    except ImportError:
        continue
    add(module)
    for each in dir(module):
        add(getattr(module, each))

add(re.compile("a"))
add(re.match("a", "a"))
add(hashlib.sha256())
add(io.StringIO())
add(io.BytesIO())
add(array.array("i"))
add(select.poll())
add(socket.socket())
add(tls.SSLContext(tls.PROTOCOL_TLS_CLIENT))
with open(sys.argv[0]) as file:
    add(file)
print(" ".join(sorted(names)))
