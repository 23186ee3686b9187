"""Peak resident memory of this process. Source: proc(5), /proc/PID/status (VmHWM) and /proc/PID/clear_refs."""

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
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
