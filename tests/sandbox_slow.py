"""A module whose import never ends, as seen on a machine that is out of breath."""

from __future__ import annotations

import os
import threading
from pathlib import Path

with (Path(os.environ["PYTHONPATH"]).parent / "importing.fifo").open("w") as fifo:
    fifo.write("importing")
threading.Event().wait()
