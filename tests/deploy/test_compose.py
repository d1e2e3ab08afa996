"""The composition fits the format, and its parts fit one another. No container is started here."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from gatewaykit import Gateway

from .conftest import DEPLOY

COMPOSE = DEPLOY / "compose.yaml"


@pytest.fixture
def composition() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return read


def test_it_fits_the_format() -> None:
    """The schema of the Compose specification takes it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_it_mounts_is_there(composition: dict[str, Any]) -> None:
    """Files of this folder, named volumes, and secrets that are declared."""
    for service in composition["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in composition["volumes"] or (DEPLOY / source).exists(), source
        assert set(service["secrets"]) <= set(composition["secrets"])
    assert all(secret["file"].startswith("./secrets/") for secret in composition["secrets"].values())


def test_nothing_is_open_by_default(composition: dict[str, Any]) -> None:
    """Every port is one of the loopback interface, no service has capabilities, and images have versions."""
    for name, service in composition["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["cap_drop"] == ["ALL"]
        if name != "gateway":
            assert not service["image"].endswith(":latest")
            assert ":" in service["image"]


def test_services_find_one_another(composition: dict[str, Any]) -> None:
    """Prometheus scrapes and tells services of the composition, with the secret that the gateway expects."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (gateway,) = [job for job in config["scrape_configs"] if job["job_name"] == "gatewaykit"]
    assert gateway["static_configs"][0]["targets"] == ["gateway:8080"]
    assert gateway["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
    assert {"gateway", "alertmanager", "prometheus", "grafana"} == set(composition["services"])
    environment = composition["services"]["gateway"]["environment"]
    assert environment["GATEWAYKIT_METRICS__TOKEN_FILE"] == "/run/secrets/metrics_token"


def test_the_gateway_takes_its_configuration(composition: dict[str, Any], tmp_path: Any) -> None:
    """The file and the variables that it is given are valid, with the secrets in files."""
    (tmp_path / "secret").write_text("a-secret-of-some-length")
    environment = {
        name: str(tmp_path / "secret") if name.endswith("_FILE") else value
        for name, value in composition["services"]["gateway"]["environment"].items()
    }
    gateway = Gateway(DEPLOY / "gatewaykit.toml", environ=environment)
    assert "gigachat" in gateway.providers
