"""After which time does the kernel give up on a mount, and how much of it is ours?

Where `fs.fuse.max_request_timeout` or `default_request_timeout` is set when a mount is made, one request that takes
longer ends the whole mount, for everybody. So a deadline of our own must come before.

Source: `Documentation/admin-guide/sysctl/fs.rst` of Linux, `fs/fuse/dev.c` and `inode.c`.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

_log = logging.getLogger(__name__)

KERNEL_LIMITS = ("/proc/sys/fs/fuse/max_request_timeout", "/proc/sys/fs/fuse/default_request_timeout")
PART_OF_LIMIT = 0.75
"""Of the time after which the kernel gives up on the whole mount, what a request gets from us."""


def kernel_limit_s() -> int:
    """How long a request may take before the kernel aborts the mount it belongs to; 0 without a limit."""
    limits = []
    for name in KERNEL_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(name).read_text(encoding="ascii")))
    return min((limit for limit in limits if limit > 0), default=0)


def below_kernel_limit(timeout_s: float) -> float:
    """`timeout_s`, or less where the kernel has a limit; the log says so."""
    limit_s = kernel_limit_s()
    if not limit_s or timeout_s <= limit_s * PART_OF_LIMIT:
        return timeout_s
    lowered_s = limit_s * PART_OF_LIMIT
    _log.warning(
        "this kernel aborts a mount when one request takes %d s: requests are answered within %g s, not %g s",
        limit_s,
        lowered_s,
        timeout_s,
    )
    return lowered_s
