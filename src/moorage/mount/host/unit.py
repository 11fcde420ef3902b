"""What does a systemd unit for mounts look like on this machine?

A template that is shipped beside this module, with this installation's own program in it.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

TEMPLATE = Path(__file__).parent / "units" / "moorage@.service"
_PROGRAM = "/usr/local/bin/moorage"


def unit() -> str:
    """The text of `moorage@.service`."""
    program = os.path.join(sysconfig.get_path("scripts"), "moorage")
    return TEMPLATE.read_text(encoding="utf-8").replace(_PROGRAM, program if os.path.exists(program) else _PROGRAM)
