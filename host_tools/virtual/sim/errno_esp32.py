"""The board's `errno` module on ESP32: newlib's numbers where they differ from Linux.

Seen by modules compiled with mpy-cross and by `getattr`. A script compiled on the spot (boot.py, main.py) gets Linux's
numbers for a literal `errno.NAME`, because the interpreter's compiler folds them in.
"""

EPERM = 1
ENOENT = 2
EIO = 5
EBADF = 9
EAGAIN = 11
ENOMEM = 12
EACCES = 13
EEXIST = 17
ENODEV = 19
EISDIR = 21
EINVAL = 22
ENOSPC = 28
EOPNOTSUPP = 95
ECONNRESET = 104
ENOBUFS = 105
ECONNREFUSED = 111
EADDRINUSE = 112
ECONNABORTED = 113
ETIMEDOUT = 116
EHOSTUNREACH = 118
EINPROGRESS = 119
EALREADY = 120
ENOTCONN = 128
errorcode = {ETIMEDOUT: "ETIMEDOUT", EINPROGRESS: "EINPROGRESS", EHOSTUNREACH: "EHOSTUNREACH", ENOENT: "ENOENT"}
