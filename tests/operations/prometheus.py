"""A Prometheus on loopback, with the configuration of `deploy/`, that scrapes one service."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.gateways.programs import DEPLOY, free_port
from tests.service import until

INTERVAL: Final = "1s"


class Prometheus:
    """Answers queries."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer."""
        return self._client.get(path, params=parameters).raise_for_status().json()["data"]

    def values(self, expression: str) -> list[float]:
        """What an expression gives now."""
        return [float(each["value"][1]) for each in self.get("/query", query=expression)["result"]]

    def is_up(self) -> bool:
        """Whether it has scraped its one target."""
        try:
            return self.values("up") == [1.0]
        except httpx.HTTPError:  # nobody listens yet, or 503: it is on its way up
            return False


@contextmanager
def running_prometheus(target: str, *, api_token: str) -> Iterator[Prometheus]:
    """Scrape a target (host:port) every second, with an API token as the example says."""
    with tempfile.TemporaryDirectory(prefix="scim-ledger-prometheus-") as directory:
        run = Path(directory)
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
        config["rule_files"] = [str(DEPLOY / "prometheus/alerts.yml")]
        (job,) = config["scrape_configs"]
        job["static_configs"][0]["targets"] = [target]
        token = run / "scim-ledger-api-token"
        token.write_text(api_token)
        job["authorization"] = {"credentials_file": str(token)}
        (run / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        with (run / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={run / 'prometheus.yml'}",
                    f"--storage.tsdb.path={run / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            url = f"http://127.0.0.1:{port}/api/v1"
            with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
                prometheus = Prometheus(client)
                until(prometheus.is_up, timeout_s=30, what="a scrape", tell=(run / "log").read_text)
                yield prometheus
        finally:
            process.terminate()
            process.wait(30)
