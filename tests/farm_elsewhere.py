"""A farm that other machines can reach: `python -m tests.farm_elsewhere DATA ADDRESS PARTS` within a namespace.

The embedded stack keeps Redis and S3 on loopback, so a relay on the machine's address passes them on. Prints how to
reach everything as JSON once it is up, and takes the farm down when standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from farm.local import Stack
from farm.local.blueprint import Blueprint
from farm.local.folder import Folder

SHORT = {
    "FARM_LEASE_S": "10",
    "FARM_HEARTBEAT_S": "1",
    "FARM_REPUBLISH_AFTER_S": "3",
    "FARM_CONTROL_TICK_S": "0.3",
    "FARM_HOST_NAME": "builder",
    "FARM_SELF_TEST_EVERY_S": "0",
}
RELAYED_FROM = 10_000
"""The relay's ports are the services' own plus this, since SeaweedFS wants its port on every address for itself."""


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def _relay(address: str, port: int) -> None:
    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass(reader, ours), _pass(theirs, writer))

    server = await asyncio.start_server(join, address, port + RELAYED_FROM)
    await server.serve_forever()


async def _relays(address: str, ports: list[int]) -> None:
    await asyncio.gather(*(_relay(address, port) for port in ports))


def main(data: Path, address: str, parts: list[str]) -> None:
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o711)
    Blueprint(Folder(data)).open()
    ports = json.loads((data / "ports.json").read_text())
    config = data / "farm.toml"
    config.write_text(f's3_public_endpoint = "http://{address}:{ports["s3.port"] + RELAYED_FROM}"\n')
    overrides = {**SHORT, "FARM_CONFIG": str(config)}
    stack = Stack(data, listen=f"{address}:{ports['api']}", settings_overrides=overrides, durable=False)
    relayed = [ports["redis"], ports["s3.port"]]
    threading.Thread(target=asyncio.run, args=(_relays(address, relayed),), daemon=True).start()
    try:
        info = asdict(stack.up(parts=parts))
        local, far = f"127.0.0.1:{ports['redis']}", f"{address}:{ports['redis'] + RELAYED_FROM}"
        print(json.dumps({**info, "redis_worker": info["redis_worker"].replace(local, far)}), flush=True)
        sys.stdin.read()
    finally:
        stack.down()
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","))
