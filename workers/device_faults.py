"""Whether a process that died took its accelerator's fault with it: libedgetpu aborts the process on an error of USB.

Source: google-coral/edgetpu#413, #11, #494; libedgetpu#41; entries `when = "runtime"` of farm/knowledge/tpu.toml.
"""

from __future__ import annotations

from farm import knowledge
from farm.domain.errors import HostError
from farm.domain.stage import ON_TARGET, StageSpec
from workers.sandbox.values import Call, Ending


def device_fault(ending: Ending, call: Call, spec: StageSpec, log: str) -> HostError | None:
    """Tell the host's failure when a step on a device ended by a signal, and its device is gone or its log blames it.

    `log` is the end of what the process said; it is believed as far as a process with a device is.
    """
    if ending.end != "signal" or not call.devices or spec.kind not in ON_TARGET:
        return None
    gone = next((path for path in call.devices if not path.exists()), None)
    said = next((found for line in log.splitlines() if (found := _of_the_host(line))), None)
    if gone is None and said is None:
        return None
    why = f"{gone} is gone: the device was unplugged, or reset, while it ran" if gone else f"{said}"
    return HostError(
        f"{spec.name} crashed with {ending.signal}, and {why}.",
        remedy="Use a powered hub and a short USB 3 cable, keep the device cool, or install libedgetpu1-std, whose "
        "clock is lower.",
        signal=ending.signal,
        log_tail=log,
    )


def _of_the_host(line: str) -> str | None:
    found = knowledge.diagnose(line, "edgetpu")
    return f"its log says {line.strip()!r}" if found is not None and found.error == HostError.code else None
