"""The board's `tls` module: the unix port's mbedTLS, with the memory that a chip has for it.

A session needs 31 KB of the IDF heap for its handshake and keeps 25; without them it is ENOMEM. Everything else, the
checks of certificates included, is mbedTLS itself. What a time-out under a session does is in sockets.py.
"""

import tls as _real
from sim import esp32

PROTOCOL_TLS_CLIENT = _real.PROTOCOL_TLS_CLIENT
CERT_NONE = _real.CERT_NONE
CERT_OPTIONAL = _real.CERT_OPTIONAL
CERT_REQUIRED = _real.CERT_REQUIRED
MBEDTLS_VERSION = _real.MBEDTLS_VERSION

_ENOMEM = 12
_PEAK_BYTES = 31_000

has_idf_heap = True  # else a session lives in Python's heap, which is not simulated


class SSLContext:
    def __init__(self, protocol):
        self._native = _real.SSLContext(protocol)
        self.load_verify_locations = self._native.load_verify_locations
        self.load_cert_chain = self._native.load_cert_chain

    @property
    def verify_mode(self):
        return self._native.verify_mode

    @verify_mode.setter
    def verify_mode(self, mode):
        self._native.verify_mode = mode

    def wrap_socket(self, sock, **options):
        if has_idf_heap and esp32.idf_heap_info(esp32.HEAP_DATA)[0][1] < _PEAK_BYTES:
            raise OSError(_ENOMEM)
        sock.under_tls = True
        return self._native.wrap_socket(sock, **options)
