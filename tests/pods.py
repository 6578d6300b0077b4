"""One run over several processes of this machine, for tests.

``python tests/pods.py`` prints how long the hosts take to end after a stop, a mistake and a kill.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600
NOWHERE = "/proc/none/run"  # nobody can open anything there

# A tiny run in a task of exact arithmetic: two updates of the model, twelve of the agent.
DREAMER = (
    f"--config={ROOT}/tests/tiny_run.py:dreamer",
    "--config.source=toy_tasks:played",
    "--config.updates=12",
    "--config.run.eval_every=4",
    "--config.run.checkpoint_every=4",
)


class Pod:
    """Processes that train one run; those but the first have a workdir that cannot be opened.

    Args:
        workdir: of host 0.
        flags: of all hosts.
        own: further flags of single hosts, by index.
        hosts: how many; one is started without ``--hosts``.
        devices: of each host.
        environment: variables of all hosts.
    """

    def __init__(
        self,
        workdir: Path,
        *flags: str,
        own: dict[int, Sequence[str]] | None = None,
        hosts: int = 2,
        devices: int = 1,
        environment: dict[str, str] | None = None,
    ) -> None:
        flags_of_xla = os.environ["XLA_FLAGS"] if "XLA_FLAGS" in os.environ else ""
        variables = os.environ | {
            "PYTHONPATH": str(ROOT / "tests"),
            # The last value of a repeated flag counts.
            "XLA_FLAGS": f"{flags_of_xla} --xla_force_host_platform_device_count={devices}",
        }
        address = f"127.0.0.1:{free_port()}"
        self.processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "experiments.train"),
                    f"--workdir={NOWHERE if index else workdir}",
                    *([] if hosts == 1 else [f"--hosts={address},{hosts},{index}"]),
                    *flags,
                    *((own or {}).get(index) or ()),
                ],
                cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=variables | (environment or {}),
            )
            for index in range(hosts)
        ]  # fmt: skip

    def finish(self) -> tuple[list[int], list[str]]:
        """Wait for all hosts; their exit statuses, and what each said on stderr."""
        try:
            said = [process.communicate(timeout=SECONDS)[1] for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [process.returncode for process in self.processes], said

    def send(self, host: int, number: signal.Signals) -> None:
        """Send a signal to one host."""
        self.processes[host].send_signal(number)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition while all hosts live."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            ended = [process for process in self.processes if process.poll() is not None]
            assert not ended, ended[0].communicate()[1][-3000:]
            time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def updates(workdir: Path) -> int:
    """Updates of the last line of a run's metrics."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return int(json.loads(lines[-1])["updates"]) if lines else 0


def _time_ends() -> None:
    """Print seconds from a signal, or from the start with a mistake, until all hosts are gone."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        for number, host in ((signal.SIGTERM, 1), (signal.SIGKILL, 1), (signal.SIGKILL, 0)):
            seen = updates(workdir)
            pod = Pod(workdir, *DREAMER)
            pod.wait_until(lambda seen=seen: updates(workdir) > seen)  # type: ignore[misc]
            began = time.monotonic()
            pod.send(host, number)
            statuses, _ = pod.finish()
            print(f"{number.name} to host {host}: {time.monotonic() - began:.1f} s, {statuses}")
        began = time.monotonic()
        statuses, _ = Pod(workdir, *DREAMER, own={1: ["--config.run.workers=0"]}).finish()
        print(f"mistake on host 1, start included: {time.monotonic() - began:.1f} s, {statuses}")


if __name__ == "__main__":
    _time_ends()
