"""Sign a report with ed25519, and check such a signature. Library: cryptography; document: RFC 8032.

The signature is over the canonical JSON of the report (farm.domain.codec.canonical). It shows that nobody changed the
report since the holder of the key signed it; whose key that is, the reader must know by its fingerprint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from farm.domain.codec import canonical
from farm.domain.errors import BadData, ConfigurationError

ALGORITHM = "ed25519"


def own_key(path: Path) -> Ed25519PrivateKey:
    """Read a key, or make it (readable by its owner alone).

    Raises:
        ConfigurationError: the file holds no ed25519 key, or can't be written.
    """
    try:
        if path.exists():
            key = load_pem_private_key(path.read_bytes(), password=None)
        else:
            key = Ed25519PrivateKey.generate()
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigurationError(f"The key {path} can't be used: {exc}.", remedy="Name another file: --key.") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} holds no ed25519 key.", remedy="Name another file: --key.")
    return key


def signed(report: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Put a report and its signature into one document."""
    public = key.public_key().public_bytes_raw()
    value = key.sign(canonical(report))
    signature = {"algorithm": ALGORITHM, "public_key": public.hex(), "value": value.hex()}
    return {"report": dict(report), "signature": signature}


def verified(document: object) -> tuple[dict[str, Any], str]:
    """Check a signed document.

    Returns: the report, and the fingerprint of the key that signed it.

    Raises:
        BadData: it is no such document, or the report was changed since it was signed.
    """
    try:
        if not isinstance(document, dict) or document["signature"]["algorithm"] != ALGORITHM:
            raise BadData("This is no report signed with ed25519.", remedy="`farm prove` writes such files.")
        public = bytes.fromhex(document["signature"]["public_key"])
        report: dict[str, Any] = document["report"]
        signature = bytes.fromhex(document["signature"]["value"])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, canonical(report))
    except InvalidSignature as exc:
        raise BadData("The report was changed since it was signed, or another key signed it.") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise BadData(f"This is no signed report: {type(exc).__name__} in its signature.") from exc
    return report, fingerprint(public)


def fingerprint(public_key: bytes) -> str:
    """Name a public key shortly: the first 16 bytes of its sha256, in groups that people can compare."""
    told = hashlib.sha256(public_key).hexdigest()[:32]
    return ":".join(told[at : at + 4] for at in range(0, 32, 4))
