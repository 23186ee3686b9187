"""What toolchains' messages mean: cause, failing operator and remedy, as data with the source of each entry.

One TOML file per family of tools lies beside this module:

    tool = "onnxruntime"                 the family
    packages = ["onnxruntime"]           top-level Python packages whose messages these are
    [[entry]]
    id = "ort-custom-operator"
    pattern = '(?P<operator>[\\w.]+:\\w+)\\(-1\\) is not a registered function/op'
    cause, error, remedy, retry, source  error is a code of farm.domain.errors
    provoked = true                      the example is what that tool's version said here, verbatim (it may be cut)
    example = "Fail: … acme:Foo(-1) is not a registered function/op"

`when` tells the compiler's phase for the Edge TPU; `check`, instead of a pattern, is what a person must look at.
Files are asked in the order of their names, entries in the order of their file: specific ones come first.
"""

from farm.knowledge.diagnosis import Diagnosis, diagnose, family_of
from farm.knowledge.entries import ANY, KnowledgeBroken, KnownMessage, families, known_messages, read_family
from farm.knowledge.telling import telling_lines

__all__ = [
    "ANY",
    "Diagnosis",
    "KnowledgeBroken",
    "KnownMessage",
    "diagnose",
    "families",
    "family_of",
    "known_messages",
    "read_family",
    "telling_lines",
]
