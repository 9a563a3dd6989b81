"""TLS on the way to the gateway, loaded only where the configuration asks for it.

Mutual, and never less: the broker's certificate must come from the fleet's authority and be for the configured name
(mbedTLS checks both in the handshake, and its dates against the board's clock), the board shows its own. Uses the raw
`tls` module; micropython-lib's `ssl` on top of it resets what is required. `cadata` is positional there, all files are
DER. The handshake waits for nothing: it goes on in each read and write of the non-blocking socket. A certificate that
is refused is a ValueError out of that read or write (the session makes a LinkError of it). Must not know MQTT.

From mbedTLS as ESP32 images build it: a session takes 25 KB of the IDF heap, 31 KB at its peak.
"""

import gc

import tls
from micropython import const

from isonode.errors import LinkError

IDF_HEAP_BYTES = const(40000)  # wanted free before a session: its peak, and a reserve for Wi-Fi


def _file(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        raise LinkError("tls", path + " cannot be read")


def wrap(sock, settings, idf_heap_free_bytes):
    """A TLS session on a connected non-blocking socket; closing it closes the socket. Raises LinkError.

    settings: settings.Tls. idf_heap_free_bytes: None where there is no such heap.
    """
    if idf_heap_free_bytes is not None and idf_heap_free_bytes < IDF_HEAP_BYTES:
        raise LinkError("tls", "%d bytes of IDF heap, %d wanted" % (idf_heap_free_bytes, IDF_HEAP_BYTES))
    gc.collect()  # sessions that nobody holds any more give their memory back
    try:
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        context.load_verify_locations(_file(settings.ca))
        context.load_cert_chain(_file(settings.cert), _file(settings.key))
        if context.verify_mode != tls.CERT_REQUIRED:
            raise LinkError("tls", "the broker's certificate would not be checked")
        session = context.wrap_socket(sock, server_hostname=settings.host, do_handshake_on_connect=False)
        session.setblocking(False)
        return session
    except ValueError as error:
        raise LinkError("tls", "certificate or key: " + str(error))
    except MemoryError:
        raise LinkError("tls", "no memory")
    except OSError as error:
        raise LinkError("tls", "no memory" if error.args and error.args[0] == 12 else repr(error))
