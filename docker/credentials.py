"""Make the passwords of a farm in containers: one file of variables for each part, with what that part may know.

    python credentials.py DIR [ADDRESS]

ADDRESS is this machine's name or address as boards reach it, FARM_ADDRESS of compose.yaml: enrolled hosts are told that
the broker is there. What is there already stays, so that a second run changes nothing but a new ADDRESS. The files are
the operator's alone (0600).
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from farm.local.folder import read_json, write_private
from farm.local.redis import WORKER_USER, configuration

NAMES = (
    *("postgres", "redis", "redis_worker", "s3_access_key", "s3_secret_key", "s3_internal"),
    *("user_token", "host_token", "flower"),
)
ADDRESS = "address"


def variables(known: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Say what each part is told; hosts are named as compose.yaml names them."""
    rules = configuration(port=6379, folder="/var/lib/farm/redis", secrets=known, durable=True)
    broker = f"redis://:{known['redis']}@redis:6379/0"
    role = f"redis://{WORKER_USER}:{known['redis_worker']}@"
    enrolled = {"FARM_WORKER_REDIS_URL": f"{role}{known[ADDRESS]}:6379/0"} if ADDRESS in known else {}
    return {
        "postgres": {"POSTGRES_PASSWORD": known["postgres"]},
        "redis": {"REDIS_CONFIGURATION": base64.b64encode(rules.encode()).decode()},
        "s3": {
            "AWS_ACCESS_KEY_ID": known["s3_access_key"],
            "AWS_SECRET_ACCESS_KEY": known["s3_secret_key"],
            "WEED_JWT_SIGNING_KEY": known["s3_internal"],
            "WEED_JWT_FILER_SIGNING_KEY": known["s3_internal"],
            "WEED_JWT_FILER_SIGNING_READ_KEY": known["s3_internal"],
        },
        "control": {
            "FARM_DATABASE_URL": f"postgresql+psycopg://farm:{known['postgres']}@postgres:5432/farm",
            "FARM_REDIS_URL": broker,
            "FARM_S3_ACCESS_KEY": known["s3_access_key"],
            "FARM_S3_SECRET_KEY": known["s3_secret_key"],
        },
        "api": {
            "FARM_BOOTSTRAP_USER_TOKEN": known["user_token"],
            "FARM_BOOTSTRAP_HOST_TOKEN": known["host_token"],
            **enrolled,
        },
        "worker": {
            "FARM_TOKEN": known["host_token"],
            "FARM_REDIS_URL": f"{role}redis:6379/0",
        },
        "flower": {"FARM_REDIS_URL": broker, "FLOWER_BASIC_AUTH": f"farm:{known['flower']}"},
        "user": {"FARM_TOKEN": known["user_token"]},
    }


def main(folder: Path, address: str | None = None) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "credentials.json"
    known: dict[str, str] = read_json(kept) or {}
    known |= {name: secrets.token_hex(20) for name in NAMES if name not in known}
    known |= {} if address is None else {ADDRESS: address}
    write_private(kept, json.dumps(known, indent=1))
    for part, told in variables(known).items():
        write_private(folder / f"{part}.env", "".join(f"{name}={value}\n" for name, value in told.items()))
    print(f"{folder}: {', '.join(f'{part}.env' for part in variables(known))}")
    if ADDRESS not in known:
        print("Boards can't be enrolled yet: give this machine's address as they reach it, as a second argument.")
    return 0


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: credentials.py DIR [ADDRESS]")
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
