"""One process of the plain script: a folder with call.json per line of input, a line of output when it is done."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workers.stages.harness import main as answer


def main() -> None:
    """Keep standard output for the answers; what toolchains print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        work = Path(line.strip())
        os.chdir(work)
        answer(work)
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
