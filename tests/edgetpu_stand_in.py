"""A stand-in for edgetpu_compiler: it compiles nothing. It proves the adapter, not the compiler.

`python edgetpu_stand_in.py MODE PAIRS ARGUMENTS…` prints what the compiler's documentation and its users show, and
copies the compiled file of a real pair where the model is one of PAIRS. Those of several models get one caching token,
as the compiler gives them, but in mode "apart": the pairs were compiled by themselves, so it is written over theirs.
The table of operations is in the log always, and on standard output only when asked for. A file beside OUT_DIR counts
the calls.
"""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

VERSIONS = {"old": "2.1.302470888", "nameless": None}
START = "Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer of 180 seconds.\n"
UNMAPPED = ("zero", "unmapped", "unlike")
"""Modes that leave the model as it was: told as such, not told at all, and told as mapped."""
TOKEN = 0xE2C366FD5D62FA6B
"""What both files of google-coral/test_data, cocompilation/mobilenet_v1_0.25_128 with mobilenet_v1_0.5_160, hold."""
REPORT = """
Model compiled successfully in 5 ms.

Input model: {name}
Input size: 2.70KiB
Output model: {stem}_edgetpu.tflite
Output size: 56.59KiB
On-chip memory used for caching model parameters: 1.25KiB
On-chip memory remaining for caching model parameters: 7.75MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: {subgraphs}
Total number of operations: 4
Operation log: {stem}_edgetpu.log
{table}Compilation child process completed within timeout period.
Compilation succeeded!
"""
TABLE = """
Operator                       Count      Status

CONV_2D                        4          {status}
"""
INTERNAL_ERROR = "Internal compiler error. Aborting! \n"
REFUSAL = (
    "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'\nModel could not be parsed\nCompilation failed!\n"
)


def compiled(pairs: Path, model: Path) -> bytes:
    """Find the compiled half of the pair that a model is the other half of."""
    digest = hashlib.sha256(model.read_bytes()).digest()
    for source in pairs.glob("*.tflite"):
        if hashlib.sha256(source.read_bytes()).digest() == digest:
            return source.with_name(f"{source.stem}_edgetpu.tflite").read_bytes()
    raise SystemExit(f"the stand-in has no pair for {model.name}")


def sharing(made: bytes, token: int) -> bytes:
    """Write a caching token over those of a compiled file."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from workers.edgetpu.compiled import read_compiled

    for old in {each.parameter_caching_token for each in read_compiled(made).executables}:
        made = made.replace(old.to_bytes(8, "little"), token.to_bytes(8, "little"))
    return made


def main(mode: str, pairs: Path, arguments: list[str]) -> int:
    if arguments == ["--version"]:
        version = VERSIONS.get(mode, "16.0.384591198")
        if mode == "bytes":
            sys.stdout.buffer.write(b"\xff\xfe ")
            sys.stdout.flush()
        print(f"Edge TPU Compiler version {version}" if version else "Edge TPU Compiler")
        return 0
    folder = Path(arguments[arguments.index("--out_dir") + 1])
    models = [Path(each) for each in arguments if each.endswith(".tflite")]
    segments = next((int(a.partition("=")[2]) for a in arguments if a.startswith("--num_segments=")), 1)
    print(START, *(a for a in arguments if a.startswith("--")), flush=True)
    calls = folder.with_name(f"{folder.name}.calls")
    calls.write_text("x" + (calls.read_text() if calls.exists() else ""))
    if mode == "slow":
        time.sleep(1.3)
    if mode == "hang":
        time.sleep(600)
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "refuse":
        print(REFUSAL)
        return 1
    if mode == "broken" or (mode == "shaky" and len(calls.read_text()) < 3):
        print(INTERNAL_ERROR)
        return 1
    empty = mode == "empty" or (mode == "shy" and len(calls.read_text()) < 2)
    for model in models:
        made = b"" if empty else model.read_bytes() if mode in UNMAPPED else compiled(pairs, model)
        made = {"junk": b"junkjunkjunk\n", "cut": made[:3000]}.get(mode, made)
        if len(models) > 1 and made and mode != "apart":
            made = sharing(made, TOKEN)
        for stem in stems(model, segments)[: 1 if mode == "lost" else None]:
            (folder / f"{stem}_edgetpu.tflite").write_bytes(made)
            status = "Operation is working on an unsupported data type" if mode == "zero" else "Mapped to Edge TPU"
            table = TABLE.format(status=status)
            if mode == "unmapped":
                print("Model compiled successfully in 5 ms.\nInput model: model.tflite\nCompilation succeeded!")
                continue
            if mode != "silent":
                (folder / f"{stem}_edgetpu.log").write_text(f"Edge TPU Compiler version 16.0.384591198\n{table}")
            shown = table if "--show_operations" in arguments and mode not in ("quiet", "silent", "bytes") else ""
            subgraphs = 0 if mode == "zero" else 1
            print(REPORT.format(name=model.name, stem=stem, table=shown, subgraphs=subgraphs))
    return 0


def stems(model: Path, segments: int) -> list[str]:
    """Name what is made of a model, as the compiler does."""
    if segments == 1:
        return [model.stem]
    return [f"{model.stem}_segment_{number}_of_{segments}" for number in range(segments)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
