"""Supervisor and workers as real processes; this module is also the program that they run."""

import asyncio
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from api.cli.ending import end_when_told
from api.server import heartbeat, supervisor
from api.server.heartbeat import Pulse
from api.server.listening import ListenError, bind
from api.server.supervisor import Program, Supervisor
from api.server.worker_process import worker_argv

NOT_TOLD = 99
"""Exit code of a process that has started before its moment came."""
AGAIN = (0, 100, 300, 600, 1000)
"""Lines after the moment in which it is told."""
ROOT = Path(__file__).parents[3]
THIS = "tests.api.server.test_supervisor"
# Their handlers write without Python's buffer, in which a signal may find them.
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("not listening", flush=True)
time.sleep(60)
"""
UNHURRIED = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"first told\\n"), time.sleep(0.5), exit()))
print("first runs", flush=True)
time.sleep(60)
"""
NEEDED = """# last
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"last told\\n"), exit()))
print("last runs", flush=True)
time.sleep(60)
"""


def create_app() -> Any:
    """Answer every request with the worker's process id;
    `/slow` says so first, and takes half a second.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            print("welcome", flush=True)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("farewell", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/slow":
            print("accepted", flush=True)
            await asyncio.sleep(0.5)
        body = str(os.getpid()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def main(number_of_workers: int, grace_s: float, *others: str) -> int:
    listener = bind("127.0.0.1", 0)
    listener.listen()
    supervisor = Supervisor(grace_s=grace_s, listeners=[listener])
    programs = [
        Program("other", (sys.executable, "-c", code), is_last=code.startswith("# last"))
        for code in others
    ]
    for number in range(1, number_of_workers + 1):
        pulse = Pulse()
        argv = worker_argv(
            f"{THIS}:create_app",
            listen_fds=[listener.fileno()],
            lifeline_fd=supervisor.lifeline_fd,
            beat_fd=pulse.beat_fd,
            worker_number=number,
        )
        programs.append(Program(f"http-{number}", argv, (listener.fileno(),), pulse))
    print(f"port {listener.getsockname()[1]} is open", flush=True)
    return supervisor.run(programs)


def told_at_every_moment(number: signal.Signals) -> int:
    """One process for every fifth line that a start runs, and told to stop in it.

    Then told again while it ends. Prints how many lines there were.
    """
    for moment in range(1 + number % 5, 100_000, 5):
        child = os.fork()
        if child == 0:
            _told_in_line(moment, number)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == NOT_TOLD:
            print(f"{moment - 1} moments", flush=True)
            return 0
        if status != 0:
            print(f"moment {moment}: {os.waitstatus_to_exitcode(status)}", flush=True)
    return 1


def _told_in_line(moment: int, number: signal.Signals) -> None:
    lines = 0

    def count(_: FrameType, event: str, __: object) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines - moment in AGAIN:
                os.kill(os.getpid(), number)
        return count

    # It waits for a signal: the start is behind it.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(NOT_TOLD) if lines < moment else None)
    signal.setitimer(signal.ITIMER_REAL, 1)
    end_when_told()
    supervisor = Supervisor()
    code = 0
    try:
        sys.settrace(count)
        code = supervisor.run([Program("other", ("/bin/sleep", "60"))])
    except (KeyboardInterrupt, SystemExit):  # as `serve` has it
        pass
    finally:
        sys.settrace(None)
    sys.stderr.flush()
    os._exit(code)


class Deployment:
    """A running supervisor and what it and its children say."""

    def __init__(self, workers: int, *others: str, grace_s: float = 15) -> None:
        argv = [sys.executable, "-m", THIS, str(workers), str(grace_s), *others]
        environment = {**os.environ, "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        self._output = self.process.stdout
        os.set_blocking(self._output.fileno(), False)
        self.said = ""
        self.port = 0

    def wait_until_serving(self, workers: int) -> None:
        self.wait_for("is open")
        self.port = int(self.said.split("port ")[1].split()[0])
        self.wait_for("welcome", times=workers)

    def wait_for(self, text: str, *, times: int = 1, timeout_s: float = 10) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            deadline = time.monotonic() + timeout_s
            while self.said.count(text) < times:
                assert time.monotonic() < deadline, f"no {text!r} in time: {self.said}"
                if selector.select(deadline - time.monotonic()):
                    piece = self._output.read()
                    assert piece != b"", f"no {text!r} to the end: {self.said}"
                    self.said += (piece or b"").decode()

    def wait_for_end(self, timeout_s: float = 10) -> int:
        exit_code = self.process.wait(timeout_s)
        self.said += (self._output.read() or b"").decode()
        return exit_code

    def get(self, path: str = "/") -> int:
        """Return the process id of the worker that answered."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return int(answer.read())


@pytest.fixture
def deploy() -> Iterator[Callable[..., Deployment]]:
    deployments: list[Deployment] = []

    def start(workers: int, *others: str, **options: float) -> Deployment:
        deployment = Deployment(workers, *others, **options)
        deployments.append(deployment)
        if workers:
            deployment.wait_until_serving(workers)
        return deployment

    yield start
    for deployment in deployments:
        deployment.process.kill()
        deployment.process.wait()
        deployment._output.close()


def eventually(is_true: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_free(port: int) -> bool:
    with contextlib.suppress(ListenError):
        bind("127.0.0.1", port).close()
        return True
    return False


def is_running(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, 2),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, 1, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_a_stop_finishes_the_requests_that_were_accepted(
    number: signal.Signals, workers: int, deploy: Callable[..., Deployment]
) -> None:
    deployment = deploy(workers)
    answers: list[int] = []
    clients = [
        threading.Thread(target=lambda: answers.append(deployment.get("/slow"))) for _ in range(4)
    ]
    for client in clients:
        client.start()
    deployment.wait_for("accepted", times=4)

    deployment.process.send_signal(number)

    assert deployment.wait_for_end() == 0
    for client in clients:
        client.join()
    assert len(answers) == 4
    assert deployment.said.count("farewell") == workers
    assert is_free(deployment.port)


def test_a_killed_worker_is_replaced_while_service_goes_on(
    deploy: Callable[..., Deployment],
) -> None:
    deployment = deploy(1)
    killed = deployment.get()

    os.kill(killed, signal.SIGKILL)

    successor = deployment.get()
    assert successor != killed
    deployment.wait_for("program died")
    deployment.wait_for("exit_code=-9")
    deployment.process.terminate()
    assert deployment.wait_for_end() == 0


@pytest.mark.long
def test_workers_do_not_outlive_a_killed_supervisor(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(2)
    deployment.wait_for("program started", times=2)
    pids = [
        int(line.split("pid=")[1].split()[0])
        for line in deployment.said.splitlines()
        if "pid=" in line
    ]
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(deployment.get("/slow")))
    client.start()
    deployment.wait_for("accepted")

    deployment.process.kill()

    eventually(lambda: not any(map(is_running, pids)), timeout_s=3)
    client.join()
    assert answers[0] in pids
    eventually(lambda: is_free(deployment.port), timeout_s=1)


@pytest.mark.long
def test_a_program_that_keeps_dying_is_restarted_ever_more_slowly(
    deploy: Callable[..., Deployment],
) -> None:
    deployment = deploy(0, "raise SystemExit(7)")

    deployment.wait_for("program died", times=3)

    for restart in ("exit_code=7", "restart_in_s=0.1", "restart_in_s=0.2", "restart_in_s=0.4"):
        deployment.wait_for(restart)
    deployment.process.terminate()
    assert deployment.wait_for_end() == 0


@pytest.mark.long
def test_whoever_connects_while_others_end_is_refused(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(1, STUBBORN, grace_s=4)
    deployment.wait_for("not listening")
    deployment.process.terminate()
    deployment.wait_for("program stopped")
    address = ("127.0.0.1", deployment.port)
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=2) as early:
        assert early.recv(1) == b"", "it waits for nobody"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=2)
    assert deployment.wait_for_end() == 0


@pytest.mark.long
def test_a_second_interrupt_kills_at_once(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(0, STUBBORN)
    deployment.wait_for("not listening")

    deployment.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        deployment.wait_for_end(timeout_s=0.3)
    deployment.process.send_signal(signal.SIGINT)

    assert deployment.wait_for_end(timeout_s=3) == 0
    assert "exit_code=-9" in deployment.said


@pytest.mark.long
def test_a_program_that_does_not_stop_is_killed_when_its_time_is_over(
    deploy: Callable[..., Deployment],
) -> None:
    deployment = deploy(0, STUBBORN, grace_s=0.3)
    deployment.wait_for("not listening")

    deployment.process.terminate()

    assert deployment.wait_for_end(timeout_s=3) == 0
    assert "exit_code=-9" in deployment.said


@pytest.mark.long
def test_what_the_others_need_is_told_to_stop_when_they_have_ended(
    deploy: Callable[..., Deployment],
) -> None:
    deployment = deploy(0, UNHURRIED, NEEDED)
    deployment.wait_for("first runs")
    deployment.wait_for("last runs")

    deployment.process.terminate()

    assert deployment.wait_for_end() == 0
    told, _, after = deployment.said.partition("first told")
    assert "program stopped" not in told
    assert after.index("program stopped") < after.index("last told")


@pytest.mark.long
def test_what_the_others_need_has_a_time_of_its_own_to_stop(
    deploy: Callable[..., Deployment],
) -> None:
    deployment = deploy(0, UNHURRIED, f"# last\n{STUBBORN}", grace_s=0.3)
    deployment.wait_for("first runs")
    deployment.wait_for("not listening")

    began = time.monotonic()
    deployment.process.terminate()

    assert deployment.wait_for_end(timeout_s=supervisor.LAST_GRACE_S + 5) == 0
    assert time.monotonic() - began > supervisor.LAST_GRACE_S
    assert deployment.said.count("exit_code=-9") == 2


@pytest.mark.long
def test_what_the_others_need_is_restarted_while_they_end(
    deploy: Callable[..., Deployment],
) -> None:
    slow = UNHURRIED.replace("0.5", "2")
    deployment = deploy(0, slow, NEEDED)
    deployment.wait_for("first runs")
    deployment.wait_for("last runs")

    deployment.process.terminate()
    deployment.wait_for("first told")
    last = next(
        int(line.split("pid=")[1].split()[0])
        for line in deployment.said.splitlines()
        if "program started" in line
    )
    os.kill(last, signal.SIGKILL)

    assert deployment.wait_for_end() == 0
    assert deployment.said.count("last runs") == 2


def worker_pids(deployment: Deployment) -> list[int]:
    lines = deployment.said.splitlines()
    return [int(line.split("pid=")[1].split()[0]) for line in lines if "program started" in line]


@pytest.mark.long
def test_a_worker_that_stands_still_is_replaced(deploy: Callable[..., Deployment]) -> None:
    """A23. Whoever has no pulse is none of them, and keeps nobody from being watched."""
    deployment = deploy(2, UNHURRIED)
    stopped = deployment.get()
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()

    deployment.wait_for("program does not answer", timeout_s=heartbeat.SILENT_S + 10)

    waited_s = time.monotonic() - began
    assert waited_s > heartbeat.SILENT_S - heartbeat.EVERY_S - 0.5
    deployment.wait_for("exit_code=-9")
    deployment.wait_for("welcome", times=3)
    for _ in range(8):
        assert deployment.get() != stopped
    assert not is_running(stopped)
    assert deployment.said.count("program does not answer") == 1
    deployment.process.terminate()
    assert deployment.wait_for_end() == 0


@pytest.mark.long
def test_a_machine_that_stood_still_costs_no_worker(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(2)
    deployment.wait_for("program started", times=2)
    everybody = [deployment.process.pid, *worker_pids(deployment)]
    eventually(lambda: deployment.get() > 0, timeout_s=1)
    time.sleep(2 * heartbeat.EVERY_S)  # so that each has beaten

    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(heartbeat.SILENT_S + 2 * heartbeat.EVERY_S)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)

    time.sleep(3 * heartbeat.EVERY_S)
    assert deployment.get() in everybody
    deployment.process.terminate()
    assert deployment.wait_for_end() == 0
    assert "does not answer" not in deployment.said


def test_a_process_that_starts_has_more_time_than_one_that_beat() -> None:
    pulse = Pulse()
    pulse.expect(1000.0)
    assert not pulse.is_silent(1000.0 + heartbeat.STARTING_S)
    assert pulse.is_silent(1000.1 + heartbeat.STARTING_S)

    heartbeat.beat(pulse.beat_fd)
    assert not pulse.is_silent(1100.0)
    assert not pulse.is_silent(1100.0 + heartbeat.SILENT_S)
    assert pulse.is_silent(1100.1 + heartbeat.SILENT_S)
    pulse.excuse(1200.0)
    assert not pulse.is_silent(1200.0 + heartbeat.SILENT_S)

    heartbeat.beat(pulse.beat_fd)
    pulse.expect(2000.0)
    assert not pulse.is_silent(2001.0 + heartbeat.SILENT_S)


def test_a_supervisor_that_does_not_read_stops_nobody() -> None:
    pulse = Pulse()
    for _ in range(70_000):
        heartbeat.beat(pulse.beat_fd)
    assert not pulse.is_silent(1.0)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_at_any_moment_of_the_start_is_an_orderly_end(number: signal.Signals) -> None:
    argv = [sys.executable, "-m", THIS, "moments", str(number)]
    environment = {**os.environ, "NO_COLOR": "1"}
    run = subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert run.returncode == 0
    said = run.stdout.splitlines()
    assert not [line for line in said if line.startswith("moment ")]
    assert int(said[-1].split()[0]) > 100
    assert "Traceback" not in run.stdout + run.stderr
    assert "never retrieved" not in run.stdout + run.stderr


if __name__ == "__main__":
    if sys.argv[1] == "moments":
        sys.exit(told_at_every_moment(signal.Signals(int(sys.argv[2]))))
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]))
