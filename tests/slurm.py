"""A real Slurm of one node on this machine, for tests: Debian's packages, no services, no munge."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client")
# A requeued job waits for the life of its credentials, 120 s if not said.
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there is no Slurm here, or an empty string; installs it where that is allowed."""
    if shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("sbatch"):
        return ""
    wanted = f"Slurm is not installed: apt-get install {' '.join(PACKAGES)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return wanted
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        done = subprocess.run(
            command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True,
            text=True, timeout=600,
        )  # fmt: skip
        if done.returncode:
            return f"{wanted} failed: {done.stderr[-500:]}"
    return ""


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """Commands of a running Slurm."""

    def __init__(self, configuration: Path) -> None:
        self.environment = {**os.environ, "SLURM_CONF": str(configuration)}

    def command(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A command from the repository's root, with more environment variables."""
        return subprocess.run(
            arguments, env={**self.environment, **settings}, capture_output=True, text=True,
            timeout=60, cwd=Path(__file__).resolve().parent.parent,
        )  # fmt: skip

    def submit(self, *arguments: str, **settings: str) -> str:
        """The number of a new job."""
        done = self.command("sbatch", "--parsable", *arguments, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def queued(self) -> list[str]:
        """One line for each job that waits or runs: its number and state."""
        done = self.command("squeue", "--noheader", "--array", "--format=%i %T")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def wait_until_empty(self, seconds: float) -> None:
        """Return when no job waits or runs."""
        wait_until(lambda: not self.queued(), seconds)


def wait_until(true, seconds: float) -> None:
    """Return when ``true()`` is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.2)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """A Slurm with its files in ``directory``; at the end, all that it started is stopped."""
    controller, node = _free_ports(2)
    configuration, user = directory / "slurm.conf", pwd.getpwuid(os.geteuid()).pw_name
    configuration.write_text(
        _CONFIGURATION.format(controller=controller, node=node, user=user, directory=directory)
    )
    for name in ("state", "spool"):
        (directory / name).mkdir()
    slurm, started = Cluster(configuration), []
    try:
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
            daemon = subprocess.Popen(
                command, env=slurm.environment, cwd=directory, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            started.append(daemon)
        wait_until(lambda: "idle" in slurm.command("sinfo", "--noheader").stdout, 60)
        yield slurm
    finally:
        slurm.command("scancel", f"--user={user}")
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=20)
        _kill_all_with(f"SLURM_CONF={configuration}")
        for daemon in started:
            daemon.wait()


def _kill_all_with(variable: str) -> None:
    """Kill the processes that were started with ``variable``: daemons, their helpers, jobs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone meanwhile
                if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
