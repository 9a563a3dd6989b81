"""Names that the linker must not touch, because others give them their meaning.

They are attributes of MicroPython's own types and modules, and the keyword arguments of its functions. Names of drivers
and of the chip's modules come from the simulation's sources, which offer what a chip offers; see `kept_names`. That the
list is whole is tested against the interpreter (tests/host_tools/bytecode/test_linker.py). Must not know the firmware.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

_WORDS = """
BaseException BytesIO DeflateIO Ellipsis Event Exception FrameBuffer FrameBuffer1 GeneratorExit IOBase
IOQueue KeyboardInterrupt Lock Loop NotImplemented OrderedDict PinBase RingIO SSLContext Server Signal
SingletonGenerator StopAsyncIteration StopIteration Stream StreamReader StreamWriter StringIO SystemExit
Task TaskQueue ThreadSafeFlag VfsFat VfsLfs1 VfsLfs2 VfsPosix VfsRom a2b_base64 abs accept aclose acos acosh
acquire add addressof aes all any append appendleft args argv array as_bytearray asin asinh atan atan2 atanh
atexit awrite awritestr b2a_base64 bin bind blit bool buffer bytearray bytearray_at byteorder bytes bytes_at
calcsize call_exception_handler callable callback ceil center chdir choice chr classmethod clear clock close
collect compile complex connect const copy copysign core cos cosh count crc32 create_task cur_task
current_task decode decrypt default_exception_handler degrees delattr deleter deque dict difference
difference_update digest dir disable discard divmod drain dump dumps e ellipse enable encode encrypt
endswith enumerate erf erfc errno errorcode eval event exc_info exec execfile executable exit exp expm1
extend fabs factorial fileno fill fill_rect filter find float floor flush fmod format frexp from_bytes
fromhex fromkeys frozenset func gamma gather get get_ciphers get_event_loop get_exception_handler
get_extra_info getaddrinfo getattr getcwd getenv getrandbits getter getvalue globals gmtime group hasattr
hash heap_lock heap_unlock heapify heappop heappush help hex hexlify hline id idle ilistdir implementation
index inet_ntop inet_pton inf input insert int intersection intersection_update io ioctl ipoll is_set
isalpha isclose isdigit isdisjoint isenabled isfinite isinf isinstance islower isnan isspace issubclass
issubset issuperset isupper items iter join kbd_intr keys ldexp len lgamma libc_ver line list listdir listen
load load_cert_chain load_verify_locations loads locals localtime locked log log10 log2 lower lstrip
makefile map match max maxsize md5 mem16 mem32 mem8 mem_alloc mem_current mem_free mem_info mem_peak
mem_total memoryview min mkdir mkfs mktime modf modify modules mount name namedtuple nan new_event_loop next
object oct off on open open_connection opt_level ord pack pack_into partition path peek pend_throw phase pi
pixel platform polar poll poly pop popitem popleft pow print print_exception property ps1 ps2 push putenv
python_compiler qstr_info queue_read queue_write radians randint random randrange range read readexactly
readinto readline readlines rect recv recvfrom register release remove rename replace repr reverse reversed
rfind rindex rmdir round rpartition rsplit rstrip run run_forever run_until_complete schedule scroll search
seed seek select send sendto sep set set_ciphers set_exception_handler setattr setblocking setdefault setraw
setsockopt setter settimeout sha1 sha256 sin sinh sizeof sleep sleep_ms sleep_us slice sockaddr socket
soft_reset sort sorted split splitlines sqrt stack_use start start_server startswith stat staticmethod
statvfs stderr stdin stdout step stop str stream stream_awrite strip struct sub sum super
symmetric_difference symmetric_difference_update sys system tan tanh tau tcgetattr tcsetattr tell text
threshold throw ticks ticks_add ticks_cpu ticks_diff ticks_ms ticks_us time time_ns time_pulse_us to_bytes
trunc tuple type umount unhexlify uniform union unlink unpack unpack_from unregister unsetenv update upper
urandom value values verify_callback verify_mode version version_info vline wait wait_closed wait_for
wait_for_ms wait_io_event websocket wrap_socket write zip all any default end file key level limit reverse
sep
"""
MICROPYTHON = frozenset(_WORDS.split())


# The interpreter itself asks objects for these, or a class may inherit them.
_ASKED_FOR = {"read", "write", "readinto", "readline", "ioctl", "close", "flush", "send", "throw", "keys", "next"}
_ASKED_FOR |= {"value", "args", "errno"}


def spare_words(others: Iterable[Path]) -> list[str]:
    """Names that every image holds already and that none of the `others` (libraries, the chip) uses: free of charge.

    As names of our own they cost neither letters nor an entry in the table of names.
    """
    said = set(_ASKED_FOR)
    for path in others:
        tree = _parse(path)
        said |= identifiers(tree) | words(tree)
    return sorted(MICROPYTHON - said, key=lambda word: (len(word), word))


def identifiers(tree: ast.AST) -> set[str]:
    """Every name that a source says: variables, attributes, functions, arguments, keywords, imports."""
    found = defined(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.update(node.name.split("."))
            found.add(node.asname or node.name)
    return found


def defined(tree: ast.AST) -> set[str]:
    """Every name that a source gives a meaning to: functions, classes, arguments, variables, attributes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return found


def words(tree: ast.AST) -> set[str]:
    """Strings that may name an attribute: `getattr(x, "name")`, `f(**{"name": ...})`."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }


def kept_names(libraries: Iterable[Path], chip: Iterable[Path]) -> set[str]:
    """MicroPython's names, all names of `libraries`, and the public ones that the sources of a `chip` define."""
    kept = set(MICROPYTHON)
    for path in libraries:
        tree = _parse(path)
        kept |= identifiers(tree) | words(tree)
    for path in chip:
        tree = _parse(path)
        kept |= {name for name in defined(tree) | words(tree) if not name.startswith("_")}
    return kept


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
