"""Runs on MicroPython: connects with TLS as the link does and prints what became of it.

Arguments: folder of the firmware, folder of umqtt, port, folder of the DER files, then the names of authority,
certificate, key and host to use.
"""

# MicroPython: the path comes before the imports.
# ruff: noqa: E402

import sys

sys.path[:0] = sys.argv[1:3]

import select
import socket

from isonode import secure
from isonode.errors import LinkError
from isonode.mqtt import Session
from isonode.settings import Tls

port, folder, ca, cert, key, host = sys.argv[3:9]
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", int(port))[0][-1])
sock.setblocking(False)
session = Session("fridge", 30, 4096)
free = int(sys.argv[9]) if len(sys.argv) > 9 else None
try:
    names = [folder + "/" + name for name in (ca, cert, key)]
    connection = secure.wrap(sock, Tls(names[0], names[1], names[2], host), free)
    session.attach(connection)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    session.put_connect()
    turns = 0
    while not session.accepted and turns < 1000:
        session.flush()
        session.receive()
        poll.poll(100)
        turns += 1
    print("accepted" if session.accepted else "silent")
    while session.accepted:  # the session goes on after reads that found nothing
        session.receive()
        session.put_ping()
        if session.flush():
            print("ping sent")
            break
except LinkError as error:
    print(error.reason, "|", error)
finally:
    session.close()
    sock.close()
