"""What a training's tensors leave in the process's heap."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE = 4 << 20  # bytes


def return_large_blocks() -> None:
    """From now on, blocks of 4 MiB and more go back to the system when they are freed, where the C library is glibc.

    Left alone, glibc takes blocks as large as the largest that was ever freed (to 32 MiB) out of its heap. Steps of a training
    need tensors of all sizes, few of them fit where another was, and the heap grows to twice what is in use.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, 32 * LARGE)
