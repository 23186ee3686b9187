"""Memory of this process: its resident peak, and its fair share of what it shares with others.

Source: proc(5), /proc/PID/status (VmHWM), /proc/PID/clear_refs and /proc/PID/smaps_rollup (Pss).
"""

from __future__ import annotations

from pathlib import Path

_RESET_PEAK = "5"


def reset_peak() -> bool:
    """Set the peak to what is resident now; False where the kernel does not let us."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """Return the highest resident size since the last reset; None where it can't be read."""
    return _kibibytes(Path("/proc/self/status"), "VmHWM:")


def pss_bytes() -> int | None:
    """Return the proportional set size now: shared pages count divided by who shares them."""
    return _kibibytes(Path("/proc/self/smaps_rollup"), "Pss:")


def _kibibytes(path: Path, label: str) -> int | None:
    try:
        told = path.read_text()
    except OSError:
        return None
    for line in told.splitlines():
        if line.startswith(label):
            return int(line.split()[1]) * 1024
    return None
