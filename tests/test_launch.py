"""The launchers that need no cluster of their own: on this machine, on a pretended TPU pod."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from executables import executable

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60

# Plays one process of a run: the interpreter of local_pod.sh, and python on a pretended pod.
STAND_IN = f"""#!{sys.executable}
import os, signal, sys
if sys.argv[1] == "-c":
    exec(sys.argv[2])
    sys.exit()
index = int(sys.argv[-1].rsplit(",", 1)[-1])
if "STATUSES" in os.environ:
    print("given", *sys.argv[1:])
    print("devices", os.environ.get("JAX_NUM_CPU_DEVICES"))
    print("and a complaint", file=sys.stderr)
    sys.exit(int(os.environ["STATUSES"].split(",")[index]))
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
print("ready", flush=True)
while True:
    signal.pause()
"""


def bash(script, *arguments, **settings):
    return subprocess.run(
        ["bash", f"launch/{script}", *arguments], cwd=ROOT, env={**os.environ, **settings},
        capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


# --- processes of this machine --------------------------------------------------------------------


@pytest.fixture
def python(tmp_path):
    return str(executable(tmp_path / "python", STAND_IN))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "write the number of processes, --, and the flags"),
        (("--", "--workdir=x"), "write the number of processes"),
        (("0", "--", "--workdir=x"), "write the number of processes"),
        (("2", "--workdir=x"), "write the number of processes"),
        (("2", "--", "--hosts=auto"), "--hosts is chosen here; leave it out."),
    ],
)
def test_local_pod_says_what_is_wrong_with_its_arguments(python, arguments, said):
    done = bash("local_pod.sh", *arguments, INTERPRETER=python)
    assert done.returncode == 1 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_local_pod_without_an_environment_says_how_to_make_one():
    done = bash("local_pod.sh", "2", "--", INTERPRETER="none/python")
    assert done.returncode == 1 and "bash launch/setup_env.sh" in done.stderr


def test_each_process_of_a_local_pod_gets_the_flags_and_its_own_index(python):
    done = bash("local_pod.sh", "3", "--", "--a=x y", INTERPRETER=python, STATUSES="0,0,0")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    told = sorted(line for line in lines if "given" in line)
    first = told[0].split("--hosts=")[1].rsplit(",", 1)[0]
    assert first.startswith("127.0.0.1:") and first.endswith(",3")
    assert told == [
        f"[{index}] given -m experiments.train --a=x y --hosts={first},{index}"
        for index in range(3)
    ]
    assert sum("devices 1" in line for line in lines) == 3  # they share the cores
    assert sorted(line for line in lines if "complaint" in line) == [
        f"[{index}] and a complaint" for index in range(3)
    ]
    assert [line.split(" is process ")[0] for line in done.stderr.splitlines()] == [
        f"host {index}" for index in range(3)
    ]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ("0,7", 7),
        ("1,137", 1),
        ("143,1", 1),
        ("0,143", 143),
        ("130,0", 130),
        ("130,143", 143),
    ],
)
def test_local_pod_ends_with_the_failure_before_the_stop_before_the_success(
    python, statuses, status
):
    done = bash("local_pod.sh", "2", "--", INTERPRETER=python, STATUSES=statuses)
    assert done.returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_local_pod_passes_a_signal_on_to_all_its_processes(python, number):
    """Each is in a group of its own, so that Ctrl-C in a terminal reaches it only this way."""
    pod = subprocess.Popen(
        ["bash", "launch/local_pod.sh", "2", "--"], cwd=ROOT, text=True, start_new_session=True,
        env={**os.environ, "INTERPRETER": python}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Tests that run in the background of a shell are to ignore SIGINT, and bash cannot trap it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert sorted(pod.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
        hosts = [int(pod.stderr.readline().split(" is process ")[1]) for _ in range(2)]
        groups = {os.getpgid(process) for process in hosts}
        assert groups == set(hosts)
        os.killpg(pod.pid, number)
        pod.communicate(timeout=SECONDS)
    finally:
        pod.kill()
    assert pod.returncode == 128 + number
    assert not any(Path(f"/proc/{process}").exists() for process in hosts)


def test_a_killed_process_of_a_local_pod_is_the_failure(python):
    """The others end by themselves in a real run; here they are stopped."""
    with subprocess.Popen(
        ["bash", "launch/local_pod.sh", "2", "--"], cwd=ROOT, text=True,
        env={**os.environ, "INTERPRETER": python}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as pod:  # fmt: skip
        assert {pod.stdout.readline() for _ in range(2)} == {"[0] ready\n", "[1] ready\n"}
        first, second = (int(pod.stderr.readline().split(" is process ")[1]) for _ in range(2))
        os.kill(second, signal.SIGKILL)
        os.kill(first, signal.SIGTERM)
        pod.communicate(timeout=SECONDS)
    assert pod.returncode == 128 + signal.SIGKILL


# --- lines of a file ------------------------------------------------------------------------------


def test_a_line_is_run_with_the_interpreter_of_the_environment_and_more_flags(tmp_path):
    lines = tmp_path / "commands.txt"
    show = "import sys; print(sys.executable, sys.argv[1:])"
    lines.write_text(f"false\npython -c '{show}' 'a b'\n")
    done = bash("run_line.sh", str(lines), "2", "--hosts=auto")
    assert done.stdout.strip() == f"{ROOT}/.venv/bin/python ['a b', '--hosts=auto']"


def test_a_dataset_is_collected_without_the_flags_of_a_run(tmp_path):
    lines = tmp_path / "data.txt"
    lines.write_text("echo -m experiments.collect --out=data\n")
    done = bash("run_line.sh", str(lines), "1", "--hosts=auto")
    assert done.stdout.strip() == "-m experiments.collect --out=data"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "write a file of commands and the number of a line."),
        (("commands.txt", "0"), "write a file of commands"),
        (("none.txt", "1"), "there is no file none.txt."),
        (("LICENSE", "1000"), "LICENSE has no line 1000, or an empty one."),
        (("LICENSE", "2"), "LICENSE has no line 2, or an empty one."),
    ],
)
def test_a_line_that_is_not_there_gets_one_sentence(arguments, said):
    done = bash("run_line.sh", *arguments)
    assert done.returncode == 1 and done.stderr.startswith(f"run_line: {said}")


# --- a TPU pod, pretended -------------------------------------------------------------------------

# Records its arguments. ``states`` are what the next looks find, the last one for good. ``runs``
# are the exit statuses of the next runs, and the states after them.
GCLOUD = f"""#!{sys.executable}
import json, sys
from pathlib import Path
here = Path(__file__).parent
arguments = sys.argv[1:]
with (here / "calls").open("a") as file:
    file.write(json.dumps(arguments) + "\\n")
pod = json.loads((here / "pod").read_text())
assert arguments[:2] == ["compute", "tpus"], arguments
what, status = arguments[2:4], 0
if what[1] == "list":
    request, machines = pod["states"][0].split(":")
    print(request if what[0] == "queued-resources" else machines)
    if what[0] == "tpu-vm":
        pod["states"] = pod["states"][1:] or pod["states"]
elif what[1] == "create":
    pod["states"] = ["WAITING_FOR_RESOURCES:", "PROVISIONING:CREATING", "ACTIVE:READY"]
elif what[1] == "delete":
    pod["states"] = [":"]
elif what[1] == "ssh" and "run_line.sh" in arguments[6]:
    (status, states), *pod["runs"] = pod["runs"]
    pod["states"] = states or pod["states"]
(here / "pod").write_text(json.dumps(pod))
sys.exit(status)
"""
POD = {
    "POD": "walker",
    "ZONE": "us-west4-a",
    "TYPE": "v5litepod-64",
    "VERSION": "v2-alpha-tpuv5-lite",
    "SHARE": "10.0.0.2:/share",
    "POLL": "0",
}


@pytest.fixture
def tpu_pod(tmp_path):
    """Runs tpu_pod.sh where the states and runs are as told; returns it and gcloud's calls."""
    executable(tmp_path / "bin" / "gcloud", GCLOUD)
    (tmp_path / "commands.txt").write_text("python -m experiments.train --workdir=/mnt/share/x\n")

    def run(runs, states=(":",), **settings):
        (tmp_path / "bin" / "pod").write_text(json.dumps({"states": list(states), "runs": runs}))
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        done = bash("tpu_pod.sh", f"{tmp_path}/commands.txt", "1", PATH=path, **{**POD, **settings})
        calls = (tmp_path / "bin" / "calls").read_text().splitlines()
        return done, [json.loads(call)[2:] for call in calls]

    return run


def verbs(calls):
    """What was asked for, without the looks; the two remote commands by what they do."""
    found = []
    for call in calls:
        if call[1] == "ssh":
            found.append("run" if "run_line.sh" in call[4] else "set up")
        elif call[1] != "list":
            found.append(call[1])
    return found


FRESH = ["create", "scp", "set up", "run"]


def test_a_tpu_pod_that_is_preempted_is_asked_for_again_and_deleted_when_finished(tpu_pod):
    done, calls = tpu_pod([(255, ["ACTIVE:READY", "SUSPENDING:", "SUSPENDED:"]), (0, None)])
    assert done.returncode == 0, done.stderr
    assert verbs(calls) == [*FRESH, "delete", *FRESH, "delete"]
    assert all({"--zone=us-west4-a", "--quiet"} <= set(call) for call in calls)
    create = next(call for call in calls if call[1] == "create")
    assert create[2:6] == [
        *("walker", "--node-id=walker", "--accelerator-type=v5litepod-64"),
        "--runtime-version=v2-alpha-tpuv5-lite",
    ]
    on_hosts = [call for call in calls if call[1] in ("ssh", "scp")]
    assert len(on_hosts) == 6 and all("--worker=all" in call for call in on_hosts)


@pytest.mark.parametrize("lost", ["SUSPENDED:", "FAILED:", "ACTIVE:PREEMPTED", "ACTIVE:"])
def test_a_lost_tpu_pod_is_deleted_before_another_is_asked_for(tpu_pod, lost):
    done, calls = tpu_pod([(0, None)], states=[lost], SPOT="1")
    assert done.returncode == 0, done.stderr
    assert verbs(calls) == ["delete", *FRESH, "delete"]
    assert "--spot" in next(call for call in calls if call[1] == "create")


def test_a_run_that_was_stopped_goes_on_on_the_same_tpu_pod(tpu_pod):
    done, calls = tpu_pod([(143, None), (0, None)], states=["ACTIVE:READY"])
    assert done.returncode == 0
    assert verbs(calls) == [*FRESH[1:], *FRESH[1:], "delete"]


@pytest.mark.parametrize("keep", ["", "1"])
def test_a_run_that_failed_is_not_repeated(tpu_pod, keep):
    done, calls = tpu_pod([(1, None)], KEEP=keep)
    assert done.returncode == 1 and "the run failed with status 1" in done.stderr
    assert verbs(calls) == [*FRESH, *([] if keep else ["delete"])]


@pytest.mark.parametrize("name", ["POD", "ZONE", "TYPE", "VERSION", "SHARE"])
def test_tpu_pod_names_what_is_not_set(tpu_pod, tmp_path, name):
    (tmp_path / "bin" / "calls").write_text("")
    done, calls = tpu_pod([], **{name: ""})
    assert done.returncode == 1 and f"{name} is not set" in done.stderr and calls == []


def test_what_a_tpu_host_is_told_stops_the_earlier_run_sets_up_and_starts_the_line(
    tpu_pod, tmp_path
):
    """The commands that gcloud gets, really run in the home directory of a pretended host."""
    _, calls = tpu_pod([(0, None)])
    remote = [call[4].removeprefix("--command=") for call in calls if call[1] == "ssh"]
    executable(tmp_path / "bin" / "sudo", '#!/bin/sh\necho "as root: $*"\n')
    executable(tmp_path / "bin" / "mountpoint", "#!/bin/sh\nexit 1\n")
    executable(tmp_path / "code/launch/setup_env.sh", 'echo "set up with $PYTHON: $*"\n')
    told = 'echo "told $*, process $$, port $JAX_COORDINATOR_PORT"; exit 5\n'
    executable(tmp_path / "code/launch/run_line.sh", told)
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        ["tar", "-czf", f"{home}/coworld_jax.tar.gz", "-C", f"{tmp_path}/code", "launch"],
        check=True,
    )
    earlier = subprocess.Popen([sys.executable, "-c", "input()", "experiments.train"], stdin=-1)
    threading.Thread(target=earlier.wait).start()  # or it would stay in the table of processes
    (home / "run.pid").write_text(f"{earlier.pid}\n")
    environment = {"HOME": str(home), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    try:
        set_up, run = (
            subprocess.run(
                ["bash", "-c", command], cwd=home, env=environment, capture_output=True, text=True,
                timeout=SECONDS,
            )
            for command in remote
        )  # fmt: skip
        assert earlier.wait(timeout=SECONDS) == -signal.SIGTERM
    finally:
        earlier.kill()
    assert set_up.returncode == 0, set_up.stderr
    assert "as root: mount -t nfs 10.0.0.2:/share /mnt/share" in set_up.stdout
    assert "set up with python3.11: envs,tpu" in set_up.stdout
    process = (home / "run.pid").read_text().strip()
    assert run.returncode == 5, run.stderr
    assert run.stdout.strip() == (
        f"told {home}/commands.txt 1 --hosts=auto, process {process}, port 8476"
    )
