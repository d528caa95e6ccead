"""Make the C library give freed tensors back to the system at once.

glibc maps a block of at least `M_MMAP_THRESHOLD` bytes on its own and unmaps it when it is freed. The threshold starts
at 128 KiB, but each time such a block is freed glibc raises it to that block's size, up to 32 MiB (mallopt(3), "dynamic
mmap threshold"). From then on feature maps below it come from the heap, where only the top can be given back, and a
freed map under a live one stays resident. So the resident memory of a process grows past what is alive, by an amount
that depends on the order of all earlier allocations. A threshold that is set by hand stays fixed; then resident memory
follows live memory, on any input size. The price is that the kernel hands out zeroed pages for every large tensor.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc
_PR_SET_THP_DISABLE = 41  # linux/prctl.h


def return_freed_memory(threshold: int = 64 * 1024) -> bool:
    """Fixes the size from which the C library maps blocks one by one, for the rest of this process.

    Arguments:
        threshold: bytes; blocks at least this large go back to the system as soon as they are freed.

    Returns:
        whether the C library took it: False where it is not glibc, which then behaves as before.
    """
    library = _c_library()
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_THRESHOLD, threshold), (_M_TRIM_THRESHOLD, threshold), (_M_TOP_PAD, 0))
    return all(library.mallopt(parameter, value) == 1 for parameter, value in settings)


def disable_huge_pages() -> bool:
    """Keeps transparent huge pages out of this process, so that resident memory counts pages that were touched.

    Returns:
        whether the kernel took it.
    """
    library = _c_library()
    if library is None or not sys.platform.startswith("linux"):
        return False
    return bool(library.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0)


def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
