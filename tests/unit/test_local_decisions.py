"""The pure decisions of the embedded stack: back-off, addresses, environments of parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.domain.errors import BadRequest
from farm.local.blueprint import ALL, parse_listen
from farm.local.folder import Folder
from farm.local.info import FlowerAccess, S3Access
from farm.local.part import Part
from farm.local.programs import SECRET_NAMES, Wiring, api_part, control_part, flower_part, inherited, worker_part
from farm.local.redis import configuration
from farm.local.supervisor import LONGEST_DELAY_S, restart_delay_s

WIRING = Wiring(
    api="http://127.0.0.1:12000",
    listen="127.0.0.1:12000",
    database="postgresql+psycopg://farm:DATABASE-SECRET@127.0.0.1:12001/farm",
    redis="redis://:REDIS-SECRET@127.0.0.1:12002/0",
    redis_worker="redis://worker:ROLE-SECRET@127.0.0.1:12002/0",
    s3=S3Access("http://127.0.0.1:12003", "farm", "S3-ACCESS", "S3-SECRET"),
    user_token="USER-TOKEN",
    host_token="HOST-TOKEN",
    flower=FlowerAccess("http://127.0.0.1:12004", "farm", "FLOWER-SECRET"),
    flower_port=12004,
)
SECRETS = {
    "DATABASE-SECRET",
    "REDIS-SECRET",
    "ROLE-SECRET",
    "S3-ACCESS",
    "S3-SECRET",
    "USER-TOKEN",
    "HOST-TOKEN",
    "FLOWER-SECRET",
}


def parts() -> dict[str, Part]:
    makers = (api_part, control_part, worker_part, flower_part)
    return {part.name: part for part in (make(Folder(Path("/data")), WIRING, {"PATH": "/bin"}) for make in makers)}


def secrets_in(text: str) -> set[str]:
    return {secret for secret in SECRETS if secret in text}


def test_a_part_is_restarted_at_once_the_first_time_and_more_slowly_when_it_keeps_ending() -> None:
    delays_s = [restart_delay_s(deaths) for deaths in range(1, 12)]

    assert delays_s[:5] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert delays_s == sorted(delays_s)
    assert delays_s[-1] == LONGEST_DELAY_S


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8765", ("127.0.0.1", 8765)),
        ("farm.example", ("farm.example", 4000)),
        (":8765", ("0.0.0.0", 8765)),
        ("[::1]:80", ("[::1]", 80)),
        ("[::1]", ("[::1]", 4000)),
    ],
)
def test_an_address_to_listen_on_is_read(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text, default_port=4000) == expected


@pytest.mark.parametrize("text", ["host:", "host:http", "host:0", "host:65536", "::1:80"])
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadRequest, match="no address"):
        parse_listen(text, default_port=4000)


def test_no_part_shows_a_secret_in_its_arguments() -> None:
    assert [secrets_in(" ".join(part.argv)) for part in parts().values()] == [set()] * 4


def test_the_worker_gets_its_role_and_its_token_and_nothing_else() -> None:
    environment = parts()["worker"].environment

    assert secrets_in(str(dict(environment))) == {"ROLE-SECRET", "HOST-TOKEN"}
    assert not {"FARM_DATABASE_URL", "FARM_S3_ENDPOINT", "FARM_S3_ACCESS_KEY"} & set(environment)


def test_flower_gets_the_broker_and_its_own_password_by_environment() -> None:
    environment = parts()["flower"].environment

    assert environment["FLOWER_BASIC_AUTH"] == "farm:FLOWER-SECRET"
    assert secrets_in(str(dict(environment))) == {"REDIS-SECRET", "FLOWER-SECRET"}


def test_the_control_plane_gets_what_it_needs_and_only_the_api_the_tokens() -> None:
    found = parts()

    assert secrets_in(str(dict(found["control"].environment))) == {
        "DATABASE-SECRET",
        "REDIS-SECRET",
        "S3-ACCESS",
        "S3-SECRET",
    }
    assert found["api"].environment["FARM_BOOTSTRAP_USER_TOKEN"] == "USER-TOKEN"
    assert found["api"].environment["FARM_BOOTSTRAP_HOST_TOKEN"] == "HOST-TOKEN"
    assert found["api"].environment["FARM_WORKER_REDIS_URL"].count("ROLE-SECRET") == 1


def test_secrets_of_the_surrounding_shell_reach_no_part_but_its_settings_do() -> None:
    # Given a shell that is set up for another farm
    shell = dict.fromkeys(SECRET_NAMES, "theirs") | {"FARM_LEASE_S": "3", "AWS_SECRET_ACCESS_KEY": "x", "PATH": "/bin"}

    assert inherited(shell) == {"FARM_LEASE_S": "3", "PATH": "/bin"}


def test_redis_knows_passwords_by_digest_only() -> None:
    text = configuration(
        port=1, folder="/data", secrets={"redis": "REDIS-SECRET", "redis_worker": "ROLE-SECRET"}, durable=True
    )

    assert secrets_in(text) == set()
    assert "appendonly yes" in text


def test_the_whole_stack_has_seven_parts() -> None:
    assert ALL == ("postgres", "redis", "s3", "api", "control", "worker", "flower")
