"""Each test has its own cache folder, and nothing remembered from another test's files."""

import os
from pathlib import Path

import pytest

from fedkeras.data import catalogue, clients


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    for remembered in (
        catalogue.open_source,
        clients._partition,
        clients.client_statistics,
        clients.pooled_normaliser,
        clients._say_what_is_left_out,
        clients._say_weights,
    ):
        remembered.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, outside the project: FEDKERAS_DATA, else ../shared/data."""
    folder = Path(os.environ.get("FEDKERAS_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set FEDKERAS_DATA to the folder with mnist/, femnist/ and motionsense/")
    return folder
