"""Runs on MicroPython. A flash chip in RAM that counts its erases and can die in the middle of one operation.

Follows the extended block protocol of MicroPython's `vfs.AbstractBlockDev` (library reference, "vfs", block devices).
A dead chip answers with a negative error number, as the drivers on boards do: an exception would jump out of the middle
of the file system's C code and leave its state as no board ever sees it.
"""

import vfs

CUT_CLEAN = 0  # the operation that the power fails at does nothing
CUT_TORN = 1  # it does half: half of the bytes programmed, half of the block erased
CUT_DONE = 2  # it is done, and nothing after it
_EIO = 5


class RamFlash:
    """`blocks` erase blocks of `block_bytes`, erased to 0xFF."""

    def __init__(self, blocks, block_bytes, data=None):
        self.blocks = blocks
        self.block_bytes = block_bytes
        self.data = bytearray(data) if data is not None else bytearray(b"\xff" * (blocks * block_bytes))
        self.operations = 0  # programs and erases
        self.erases = 0
        self.dies_at = 0  # number of the operation that fails, 0: none
        self.mode = CUT_CLEAN
        self.dead = False
        self.durable = None  # called at each operation of a flash that is not to die; what it says goes into the log
        self.log = []  # (offset, content, what `durable` said) of each operation since `arm`
        self._erased = b"\xff" * block_bytes

    def arm(self, dies_at, mode):
        """From here on operations count: the power fails at number dies_at, or never for 0, and then each is logged."""
        self.operations = 0
        self.dies_at = dies_at
        self.mode = mode
        self.log = []

    def cut(self, at, content, mode):
        """Do to the bytes what a cut in an operation does."""
        if mode != CUT_CLEAN:
            done = len(content) if mode == CUT_DONE else len(content) // 2
            self.data[at : at + done] = memoryview(content)[:done]

    def readblocks(self, block, buf, offset=0):
        if self.dead:
            return -_EIO
        at = block * self.block_bytes + offset
        buf[:] = memoryview(self.data)[at : at + len(buf)]
        return 0

    def writeblocks(self, block, buf, offset=0):
        return self._change(block * self.block_bytes + offset, buf, len(buf))

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return self.block_bytes
        if op == 6:
            self.erases += 1
            return self._change(arg * self.block_bytes, self._erased, self.block_bytes)
        return 0

    def _change(self, at, content, size):
        if self.dead:
            return -_EIO
        self.operations += 1
        if self.operations == self.dies_at:
            self.dead = True
            self.cut(at, content, self.mode)
            return -_EIO
        if self.durable is not None and not self.dies_at:
            self.log.append((at, bytes(content), self.durable()))
        self.data[at : at + size] = content
        return 0


def format_and_mount(flash, path="/f"):
    """An empty littlefs with the options that the ESP32 and RP2 ports use."""
    vfs.VfsLfs2.mkfs(flash, progsize=32, readsize=32, lookahead=32)
    mount(flash, path)


def mount(flash, path="/f"):
    """Mount what is there."""
    vfs.mount(vfs.VfsLfs2(flash, progsize=32, readsize=32, lookahead=32), path)


def cut_everywhere(blocks, block_bytes, start, action, check):
    """Cut the power at every operation of `action`, each clean, torn and just done. Returns how many cuts that were.

    start: the bytes of a flash, of which each cut gets a copy. action(flash): returns what it promised; an OSError is
    the dying chip's, and promises None. check(promised, (number, mode)): at the mounted flash once the power is back.
    """
    cuts = 0
    at = 0
    while True:
        at += 1
        whole = False
        for mode in (CUT_CLEAN, CUT_TORN, CUT_DONE):
            flash = RamFlash(blocks, block_bytes, start)
            mount(flash)
            flash.dies_at = at
            flash.mode = mode
            try:
                promised = action(flash)
            except OSError:
                promised = None
            whole = whole or not flash.dead
            unmount()
            flash.dead = False
            flash.dies_at = 0
            mount(flash)
            check(promised, (at, mode))
            unmount()
            cuts += 1
        if whole:
            return cuts


def unmount(path="/f"):
    """Unmount; a chip that is dead has nothing more to say."""
    try:
        vfs.umount(path)
    except OSError as error:
        assert error.errno == _EIO
