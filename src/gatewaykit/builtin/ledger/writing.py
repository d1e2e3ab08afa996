"""Writing a line to a file without giving way to other threads.

``os.write`` lets go of the interpreter while the kernel copies the line, which takes two microseconds; a thread that
has work then keeps the interpreter for its whole turn, 5 ms, and all clients of the event loop wait for it.
"""

from __future__ import annotations

import ctypes
import errno
import os

_write = ctypes.PyDLL(None, use_errno=True).write
_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_write.restype = ctypes.c_ssize_t


def write(fd: int, data: bytes) -> int:
    """As :func:`os.write`, for files; how many bytes were written. Raises :class:`OSError`."""
    while (written := int(_write(fd, data, len(data)))) < 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return written
