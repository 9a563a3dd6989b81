"""The board's `esp32` module: chip temperature and the heap of the IDF. Must not know the firmware."""

from sim import machine, player, sockets

HEAP_DATA = 4
HEAP_EXEC = 1024

IDF_HEAP_BYTES = 110_000  # free for the IDF with Wi-Fi connected, as a 112 KiB Python heap leaves it
TLS_BYTES = 25_000  # one TLS session
SOCKET_BYTES = 3_000  # one open TCP socket with its buffers, about


def mcu_temperature():
    return (player.temp_milli + machine.CHIP_WARMER_MILLI + 500) // 1000


def idf_heap_info(capabilities):
    """One region: (total, free, largest free block, least free ever)."""
    free = IDF_HEAP_BYTES - SOCKET_BYTES * sockets.open_count() - TLS_BYTES * sockets.tls_count()
    return [(IDF_HEAP_BYTES, free, free * 2 // 3, IDF_HEAP_BYTES - SOCKET_BYTES * sockets.most_open())]


def wake_on_ext0(pin=None, level=0):
    pass
