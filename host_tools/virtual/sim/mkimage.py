"""Fill and read flash images: a job file in, images or files out. Started by image.py on the host.

A job: {"image", "create_bytes"?, "write": [[host file, flash path]...], "read": [[flash path, host file]...]}.
Must not know what the files are.
"""

import sys

sys.path[:] = [sys.path[0].rsplit("/", 1)[0], ".frozen"]  # the package of this file, not its folder

import json  # noqa: E402
import os  # noqa: E402

import vfs  # noqa: E402
from sim import flash  # noqa: E402

_AT = "/flash"
_CHUNK_BYTES = 4096


def _make_folders(path):
    parts = path.strip("/").split("/")[:-1]
    folder = _AT
    for part in parts:
        folder += "/" + part
        try:
            os.mkdir(folder)
        except OSError as error:
            if error.errno != 17:  # EEXIST
                raise


def _copy(source, target):
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while True:
            chunk = reader.read(_CHUNK_BYTES)
            if not chunk:
                break
            writer.write(chunk)


def run(job):
    if job.get("create_bytes"):
        flash.create(job["image"], job["create_bytes"])
    flash.mount(flash.FileFlash(job["image"]), _AT)
    for source, path in job.get("write", ()):
        _make_folders(path)
        _copy(source, _AT + path)
    for path, target in job.get("read", ()):
        _copy(_AT + path, target)
    used = os.statvfs(_AT)
    vfs.umount(_AT)
    return (used[2] - used[3]) * used[0]


with open(sys.argv[1]) as jobs:
    for each in json.load(jobs):
        try:
            print(each["image"], run(each))
        except OSError as problem:
            print("error:", each["image"], problem.errno)
            sys.exit(1)
