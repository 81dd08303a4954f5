"""Keep freed memory in the process: on Linux, glibc gives large blocks back at once and pays page faults for the next ones."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEPT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep what a training step frees for the next step; True where it was told.

    The activations of a step on a CPU are many large blocks; fetched afresh from the system in every step, they cost a
    page fault for each of their pages. Changes the allocator of this process for good.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return all(mallopt(option, value) == 1 for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEPT)))
