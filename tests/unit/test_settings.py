"""Parts that are told what can't be: a configuration error that names the setting, and no defect of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from farm.api.app import prepare
from farm.cli.errors import on_unexpected
from farm.domain.errors import ConfigurationError
from farm.settings import BadSettings, Settings, settings
from tests.store_servers import free_port


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FARM_LEASE_S", "soon", "FARM_LEASE_S is 'soon': "),
        ("FARM_LISTEN", "everywhere", "FARM_LISTEN is 'everywhere': "),
        ("FARM_ACCEPT_ISOLATION", "full", "accept_isolation"),
        ("FARM_CONFIG", "/no/such/farm.toml", "FARM_CONFIG names /no/such/farm.toml, which is no file."),
    ],
)
def test_a_setting_that_can_not_be_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(BadSettings) as caught:
        settings()

    assert told in str(caught.value)
    with pytest.raises(SystemExit):
        on_unexpected(BadSettings, caught.value, None)
    assert "Error [configuration-error]" in capsys.readouterr().err


def test_a_file_that_is_no_toml_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text("lease_s = = 3")
    monkeypatch.setenv("FARM_CONFIG", str(path))

    with pytest.raises(BadSettings, match="can't be read"):
        settings()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "FARM_DATABASE_URL names no PostgreSQL database"),
        ("postgresql+psycopg://farm:hidden@127.0.0.1:{port}/farm", "FARM_DATABASE_URL is postgresql"),
        ("postgresql+nodriver://farm:hidden@127.0.0.1:{port}/farm", "FARM_DATABASE_URL names no PostgreSQL database"),
    ],
)
def test_an_api_without_its_ledger_says_which_setting_to_look_at(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        prepare(Settings(database_url=SecretStr(url.format(port=free_port()))))

    assert told in caught.value.message
    assert "hidden" not in caught.value.message
    assert "FARM_DATABASE_URL" in (caught.value.remedy or "")
