"""How large may a number be? As large as operating systems can say: offsets and times are 63 bits there.

So no sum of sizes and no time in a repository can be one that a reader fails to hand on.
"""

from __future__ import annotations

MAX_SIZE_BYTES = 2**63 - 1
"""Of a file, and of all that a directory holds."""
MAX_TIME_NS = 2**63 - 1
"""In the year 2262."""
