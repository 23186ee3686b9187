"""One typed settings object, from environment variables (FARM_…) and the TOML file that FARM_CONFIG names."""

from __future__ import annotations

import os
import sys
import tomllib
from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)


class BadSettings(ValueError):
    """What a part is told to be can't be: the message names every setting at fault, never a secret's value."""


class Settings(BaseSettings):
    """Every setting of every part; a part reads what concerns it. The environment wins over the TOML file."""

    model_config = SettingsConfigDict(env_prefix="FARM_", extra="ignore", frozen=True)

    url: str = Field(default="http://127.0.0.1:8765", description="where clients and workers reach the API")
    token: SecretStr | None = Field(default=None, description="the caller's token: a user's, or a host's")
    listen: str = Field(default="127.0.0.1:8765", pattern=r":\d{1,5}$", description="where `farm api` listens")

    database_url: SecretStr = Field(default=SecretStr("postgresql+psycopg://farm@127.0.0.1:5432/farm"))
    redis_url: SecretStr = Field(default=SecretStr("redis://127.0.0.1:6379/0"))
    worker_redis_url: SecretStr | None = Field(default=None, description="the broker as enrolled hosts reach it")

    s3_endpoint: str = Field(default="http://127.0.0.1:8333", description="how the control plane reaches S3")
    s3_public_endpoint: str | None = Field(default=None, description="what is signed into URLs; s3_endpoint when unset")
    s3_bucket: str = "farm"
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    url_lifetime_s: int = Field(default=3600, ge=60, le=7 * 86400)
    single_put_limit_bytes: int = Field(default=2 << 30, ge=5 << 20, le=5 << 30)
    part_size_bytes: int = Field(default=64 << 20, ge=5 << 20)
    max_file_bytes: int = Field(default=20 << 30, description="a larger file is refused at declaration")

    lease_s: float = Field(default=20.0, gt=0)
    heartbeat_s: float = Field(default=5.0, gt=0)
    host_grace_s: float = Field(default=60.0, gt=0, description="a host is live while its heartbeat is younger")
    republish_after_s: float = Field(default=10.0, gt=0)
    republish_behind_others_s: float = Field(default=60.0, gt=0)
    control_tick_s: float = Field(default=1.0, gt=0, description="how long control sleeps when nothing wakes it")
    max_attempts: int = Field(default=3, ge=1, description="attempts of a step before a host's failure is final")
    retry_backoff_s: float = Field(default=2.0, ge=0)
    self_test_every_s: float = Field(
        default=86400.0, ge=0, description="how often each host tests itself; 0: on demand"
    )
    host_failures_max: int = Field(default=3, ge=1, description="steps a host may break before it is quarantined")
    host_failures_within_s: float = Field(default=3600.0, gt=0, description="how long a broken step counts")
    upload_retention_s: float = Field(default=24 * 3600.0, gt=0)

    work_dir: Path = Field(default=Path(".farm/work"), description="a worker's scratch space")
    cache_dir: Path = Field(default=Path(".farm/cache"), description="a worker's content-addressed input cache")
    cache_limit_bytes: int = 20 << 30
    environments_dir: Path = Field(
        default=Path(sys.prefix).parent / ".envs", description="where stage environments are installed"
    )
    host_name: str | None = Field(default=None, description="a worker's name; the machine's when unset")
    concurrency: int = Field(default=2, ge=1, description="build steps a worker runs at once")
    accept_isolation: tuple[str, ...] = Field(default=("full", "partial"))
    measurement_processes_max: int = Field(default=9, ge=3, description="most processes of one measurement")
    measurement_budget_s: float = Field(default=45.0, gt=0, description="no further process starts after so long")
    measurement_retries: int = Field(default=1, ge=0, le=5, description="how often an invalid one is taken again")
    measurement_cool_down_s: float | None = Field(
        default=None, ge=0, le=600, description="the pause before that; the profile's cool_down_s when unset"
    )
    launcher: Path | None = Field(default=None, description="socket of the launcher that an emulated worker needs")
    transfer_budget_s: float = Field(default=60.0, gt=0, description="how long a worker retries storage and API")

    flower_shows_names: bool = Field(default=True, description="False shows ids instead of model names in Flower")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, os.environ.get("FARM_CONFIG") or None)
        return init_settings, env_settings, toml


@cache
def settings() -> Settings:
    """Read the settings once per process.

    Raises:
        BadSettings: a variable, or the file that FARM_CONFIG names, can't be read.
    """
    path = os.environ.get("FARM_CONFIG")
    if path and not Path(path).is_file():
        raise BadSettings(f"FARM_CONFIG names {path}, which is no file.")
    try:
        return Settings()
    except ValidationError as exc:
        raise BadSettings(" ".join(_problem(error["loc"], error["msg"]) for error in exc.errors())) from exc
    except (SettingsError, tomllib.TOMLDecodeError) as exc:
        raise BadSettings(f"The settings can't be read: {exc}") from exc


def _problem(place: tuple[int | str, ...], message: str) -> str:
    name = str(place[0])
    field = Settings.model_fields.get(name)
    value = os.environ.get(f"FARM_{name.upper()}")
    is_shown = value is not None and field is not None and "SecretStr" not in str(field.annotation)
    return f"FARM_{name.upper()}{f' is {value!r}' if is_shown else ''}: {message}."
