"""The count of file locks in a sandbox.

A lock of a part of a file (``fcntl(F_SETLK)``, as SQLite uses it) is kernel memory that counts for no process and for
no cgroup, and a process may have any number of them. So the seccomp filter asks the box before each.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import struct

LARGEST_COUNT = 1_000
"""The number of locks that the processes of a sandbox may have together."""

# Requests of ioctl(2), and the sizes of their structures: struct seccomp_notif and struct seccomp_notif_resp.
_RECEIVE, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_WAKE_ON_SAME_PROCESSOR = 1
_NOTIFICATION_SIZE = 80
_CONTINUE = 1
# Locks above which they are counted at most once in so many seconds, so that a process with many cannot keep the box
# busy. Requests wait for the count.
_CROWDED = LARGEST_COUNT // 2
_COUNT_INTERVAL = 0.05


class LockCounter:
    """Answer the kernel when a process wants to lock a part of a file: below the limit it may, else it gets ENOLCK.

    The locks are counted after each so many requests that the limit might be reached; a request adds at most two.
    """

    def __init__(self, listener: int, locks: int) -> None:
        """Answer on the listener of :func:`.seccomp.install_filter`; `locks` is /proc/locks, opened in the sandbox."""
        self._listener = listener
        self._locks = locks
        self._requests_left = 0
        self._counted_at = self._count_again_at = float("-inf")

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        try:
            fcntl.ioctl(self._listener, _SET_FLAGS, _WAKE_ON_SAME_PROCESSOR)
        except OSError as error:
            if error.errno != errno.EINVAL:  # Linux before 6.6, where each request takes a little longer
                raise
        asyncio.get_running_loop().add_reader(self._listener, self._answer)

    def _answer(self) -> None:
        notification = bytearray(_NOTIFICATION_SIZE)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notification)
        except FileNotFoundError:
            return  # the process has been killed
        (id,) = struct.unpack_from("Q", notification)
        self._decide(id, asyncio.get_running_loop().time())

    def _decide(self, id: int, asked_at: float) -> None:
        """Answer a request, by a count that is not older than the request unless enough may still follow the last."""
        loop = asyncio.get_running_loop()
        if self._requests_left <= 0 and self._counted_at <= asked_at:
            now = loop.time()
            if now < self._count_again_at:
                loop.call_at(self._count_again_at, self._decide, id, asked_at)
                return
            count = self._count()
            self._counted_at = loop.time()
            self._count_again_at = self._counted_at + (_COUNT_INTERVAL if count > _CROWDED else 0)
            self._requests_left = (LARGEST_COUNT - count) // 2
        if self._requests_left > 0:
            self._requests_left -= 1
            self._send(struct.pack("QqiI", id, 0, 0, _CONTINUE))
        else:
            self._send(struct.pack("QqiI", id, 0, -errno.ENOLCK, 0))

    def _send(self, response: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):  # the process has been killed
            fcntl.ioctl(self._listener, _SEND, response)

    def _count(self) -> int:
        """Return the number of locks, and of requests that wait for one. The file has those of the sandbox only."""
        count = offset = 0
        while chunk := os.pread(self._locks, 65_536, offset):
            offset += len(chunk)
            count += chunk.count(b" POSIX ")
        return count
