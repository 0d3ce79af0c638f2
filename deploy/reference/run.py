"""A whole installation on this machine: the ledger, a SCIM service, and nginx in front of both.

    python deploy/reference/run.py
        nginx asks the ledger, and passes on to the SCIM service
    python deploy/reference/run.py --without-nginx
        the ledger itself passes /scim/v2 on

Prints a SCIM token and a call with it; Ctrl-C ends everything. The SCIM service is scim2-server, in
memory. Needs: pip install -r requirements-gateways.txt, and nginx and envsubst (Debian: nginx,
gettext-base).
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

BIN = Path(sys.executable).parent
NGINX = Path(__file__).resolve().parents[1] / "nginx" / "run"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0


def main() -> None:
    """Start, print, wait, stop."""
    asked = _arguments()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with ExitStack() as running:
        data_dir = asked.data_dir or Path(
            tempfile.mkdtemp(prefix="scim-ledger-reference-", dir="/tmp")
        )
        if asked.data_dir is None:
            running.callback(shutil.rmtree, data_dir, ignore_errors=True)
        backend = f"http://127.0.0.1:{asked.backend_port}/scim/v2"
        ledger = f"http://127.0.0.1:{asked.ledger_port}"
        front = ledger if asked.without_nginx else f"http://127.0.0.1:{asked.port}"
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", ""), "/usr/sbin"]),
        }

        # A "tenant" of scim2-server is a path before its own /v2: so it answers at /scim/v2.
        arguments = ["--tenant", "scim", "--reverse-proxy", "--port", str(asked.backend_port)]
        is_up = partial(_is, f"{backend}/Users", HTTPStatus.OK)
        _start(running, ["scim2-server", *arguments], environment, is_up=is_up)

        arguments = ["serve", "--port", str(asked.ledger_port), "--data-dir", str(data_dir)]
        told = {"SCIM_LEDGER_SCIM_BASE_URL": f"{front}/scim/v2"}
        if asked.without_nginx:
            told["SCIM_LEDGER_SCIM_UPSTREAM_URL"] = backend
        is_up = partial(_is, f"{ledger}/readyz", HTTPStatus.OK)
        _start(running, ["scim-ledger", *arguments], environment | told, is_up=is_up)

        if not asked.without_nginx:
            gateway = {
                "LISTEN_PORT": str(asked.port),
                "LEDGER_PORT": str(asked.ledger_port),
                "BACKEND_PORT": str(asked.backend_port),
            }
            is_up = partial(_is, f"{front}/scim/v2/Users", HTTPStatus.UNAUTHORIZED)
            _start(running, [str(NGINX)], environment | gateway, is_up=is_up)

        token = _scim_token(data_dir, environment)
        found = {"url": f"{front}/scim/v2", "token": token, "ledger": ledger, "backend": backend}
        print(json.dumps(found) if asked.as_json else _greeting(found), flush=True)
        while True:
            signal.pause()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--without-nginx", action="store_true")
    parser.add_argument("--port", type=int, default=8000, help="of nginx")
    parser.add_argument("--ledger-port", type=int, default=8080)
    parser.add_argument("--backend-port", type=int, default=9000, help="of the SCIM service")
    parser.add_argument("--data-dir", type=Path, help="of the ledger; without it nothing is kept")
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="print the addresses as JSON"
    )
    return parser.parse_args()


def _start(
    running: ExitStack,
    argv: Sequence[str],
    environment: dict[str, str],
    *,
    is_up: Callable[[], bool],
) -> None:
    """Start a program that ends with us, and wait for it; what it says goes to standard error."""
    program = shutil.which(argv[0], path=environment["PATH"])
    if program is None:
        sys.exit(f"{argv[0]} not found: pip install -r requirements-gateways.txt")
    process = subprocess.Popen(  # noqa: S603 - the command lines are our own
        [program, *argv[1:]], env=environment, stdout=sys.stderr, start_new_session=True
    )
    running.callback(_stop, process)
    ends_at = time.monotonic() + START_TIMEOUT_S
    while not is_up():
        if process.poll() is not None or time.monotonic() > ends_at:
            sys.exit(f"{argv[0]} did not start")
        time.sleep(0.05)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _is(url: str, status: int) -> bool:
    """Whether a GET is answered so. Proxies of the environment are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == status)
    except urllib.error.HTTPError as error:
        return error.code == status
    except OSError:
        return False


def _scim_token(data_dir: Path, environment: dict[str, str]) -> str:
    argv = [
        "scim-ledger",
        "token",
        "create",
        "--team",
        str(uuid4()),
        "--name",
        "Reference deployment",
    ]
    argv += ["--user", str(uuid4()), "--data-dir", str(data_dir), "--json"]
    done = subprocess.run(  # noqa: S603
        [str(BIN / argv[0]), *argv[1:]], env=environment, stdout=subprocess.PIPE, check=True
    )
    token: str = json.loads(done.stdout)["token"]
    return token


def _greeting(found: dict[str, str]) -> str:
    return f"""
The SCIM service answers at {found["url"]} to whoever holds this token:

  {found["token"]}

  curl -H 'Authorization: Bearer {found["token"]}' {found["url"]}/Users

Ctrl-C ends it.
"""


if __name__ == "__main__":
    main()
