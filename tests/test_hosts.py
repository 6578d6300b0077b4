"""One run over several hosts: exchanges, shared play, one workdir, stops, failures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import Future

import jax
import numpy as np
import pytest
from episodes import assert_same_episode, make_episode, save_three
from pods import DREAMER, ROOT, Pod, updates

from coworld_jax import hosts
from coworld_jax.data import save_episode
from coworld_jax.data.shared import _pack, _unpack
from coworld_jax.records.metrics import read_metrics
from coworld_jax.training.runtime import StopRequest
from coworld_jax.training.waiting import Patience, Stopped

# --- one host, no process -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("two", "--hosts=two does not name the hosts: use one, auto"),
        ("10.0.0.1,2,0", "ADDRESS:PORT"),
        ("10.0.0.1:8476,2", "does not name"),
        ("10.0.0.1:port,2,0", "does not name"),
        ("10.0.0.1:8476,2,-1", "does not name"),
        ("10.0.0.1:8476,2,2", "INDEX 2 must be below COUNT 2"),
    ],
)
def test_a_wrong_way_to_name_the_hosts_gets_a_sentence(mode, said):
    with pytest.raises(ValueError, match=said):
        hosts.start(mode)


def test_a_machine_without_a_cluster_gets_a_sentence():
    program = "from coworld_jax import hosts; hosts.start('auto')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "--hosts=auto: jax recognises no cluster here" in done.stderr


def test_one_host_starts_nothing():
    hosts.start("one")
    assert not jax.distributed.is_initialized()
    assert (hosts.count(), hosts.index(), hosts.first()) == (1, 0, True)
    assert hosts.gather({"a": 1}) == [{"a": 1}]
    hosts.agree("the configuration has", {"a": 1})
    hosts.announce("nobody hears it")


@pytest.mark.parametrize("length", [0, 1, 1015, 1016, 3_000_000])
def test_a_message_is_whole(length):
    blob = bytes(range(256)) * (length // 256) + bytes(length % 256)
    (message,) = hosts._open(hosts._head(blob, failed=False)[None])
    parts = b"".join(part.tobytes() for part in hosts._portions(blob, length))
    assert message.length == length
    assert blob == (message.text if length <= 1015 else parts[:length])


def test_a_failure_is_named_unless_all_hosts_say_the_same():
    good, bad, other = (
        hosts._head(text, failed=failed)
        for text, failed in ((b"fine", False), (b"no such file", True), (b"no room", True))
    )
    with pytest.raises(hosts.HostError, match=r"^Host 1: no such file$"):
        hosts._open(np.stack([good, bad, other]))
    with pytest.raises(hosts.HostError, match=r"^no such file$"):
        hosts._open(np.stack([bad, bad]))


def test_episodes_travel_bit_for_bit():
    sent = {4: make_episode(4, state=np.ones((9, 2), np.float32)), 11: make_episode(11, 6)}
    received = _unpack(_pack(sent))
    assert received.keys() == sent.keys()
    for number, episode in sent.items():
        assert_same_episode(received[number], episode)


def test_a_stop_waits_for_what_is_worthwhile_and_no_longer():
    stop, never = StopRequest(), Future()
    done = Future()
    done.set_result(1)
    patience = Patience(stop, grace=0.3)
    patience.wait([done])
    stop._receive(signal.SIGTERM, None)
    patience.wait([done])
    with pytest.raises(Stopped):
        patience.wait([never])
    with pytest.raises(Stopped):
        Patience(stop, grace=1000.0).wait([never], worthwhile=False)
    assert stop.status == 143


# --- two hosts ------------------------------------------------------------------------------------


def digest(workdir):
    return json.loads((workdir / "summary.json").read_text())["state_digest"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process with two devices: its workdir, and the seeds that it played."""
    folder = tmp_path_factory.mktemp("alone")
    pod = Pod(
        folder / "run", *DREAMER, hosts=1, devices=2,
        environment={"TOY_SEEDS": str(folder / "seeds")},
    )  # fmt: skip
    statuses, said = pod.finish()
    assert statuses == [0], said[0][-3000:]
    return folder / "run", _episodes(folder / "seeds")


def _episodes(file):
    """The seeds in a file, but for those of workers that only look what the task is."""
    return [seed for seed in file.read_text().split() if seed != "0"]


@pytest.mark.slow
def test_two_hosts_end_as_one_with_two_devices(alone, tmp_path):
    """Bit for bit. Each episode is played once, and host 1 opens nothing in the workdir."""
    pod = Pod(tmp_path / "run", *DREAMER, environment={"TOY_SEEDS": str(tmp_path / "seeds")})
    statuses, said = pod.finish()
    assert statuses == [0, 0], said[1][-3000:]
    workdir, seeds = alone
    assert digest(tmp_path / "run") == digest(workdir)
    played = _episodes(tmp_path / "seeds")
    assert sorted(played) == sorted(seeds) and len(set(played)) == len(played)
    files = sorted(path.name for path in (workdir / "replay/source").iterdir())
    for file in files:
        one, other = (place / "replay/source" / file for place in (workdir, tmp_path / "run"))
        with np.load(one) as left, np.load(other) as right:
            for key in left.files:
                np.testing.assert_array_equal(left[key], right[key])
    assert _numbers(tmp_path / "run") == _numbers(workdir)


def _numbers(workdir):
    """All metrics but those of time."""
    return [
        {name: value for name, value in record.items() if "time" not in name}
        for record in read_metrics(workdir / "metrics.jsonl")
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config.updates=6"], "On host 1 the configuration has updates 6 instead of the 12 of"),
        pytest.param(["--config.seeed=1"], "did you mean", marks=pytest.mark.slow),
        pytest.param(["--config.run.workers=0"], "Host 1: run.workers", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_on_one_host_ends_both_with_the_same_sentence(tmp_path, flags, said):
    statuses, words = Pod(tmp_path / "run", *DREAMER, own={1: flags}).finish()
    assert statuses == [1, 1]
    sentences = [word.strip().splitlines()[-1] for word in words]
    assert sentences[0] == sentences[1] and said in sentences[0]
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.parametrize("moment", ["prefill", "chunk", "collection", "save", "evaluation"])
@pytest.mark.parametrize("grace", [20, 0])
def test_a_stop_of_any_host_ends_all_and_the_run_continues(alone, tmp_path, host, moment, grace):
    if moment in ("prefill", "save") and (grace == 0 or host == 0):
        pytest.skip("the same as with another grace, or on the other host")
    workdir, flag = tmp_path / "run", f"--config.run.grace={grace}"
    slow = moment in ("prefill", "collection", "evaluation")
    pod = Pod(workdir, *DREAMER, flag, environment={"TOY_SECONDS": "0.3" if slow else "0"})
    # Updates after which it comes to that; of the first two, and of four further ones.
    due = {"chunk": 2, "collection": 2, "evaluation": 6, "save": 6}
    if moment == "prefill":
        pod.wait_until((workdir / "tasks.json").exists)
    else:
        pod.wait_until(lambda: updates(workdir) >= due[moment])
    pod.send(host, signal.SIGTERM)
    statuses, said = pod.finish()
    assert statuses == [143, 143], said[host][-3000:]
    assert "Stopped" in said[0] and not (workdir / "summary.json").exists()
    # A single host with the same number of devices goes on with it.
    statuses, said = Pod(workdir, *DREAMER, flag, hosts=1, devices=2).finish()
    assert statuses == [0], said[0][-3000:]
    assert digest(workdir) == digest(alone[0])


@pytest.mark.slow
@pytest.mark.parametrize("host", [0, 1])
def test_a_killed_host_takes_the_others_along(alone, tmp_path, host):
    workdir = tmp_path / "run"
    pod = Pod(workdir, *DREAMER, environment={"TOY_SECONDS": "0.3"})
    pod.wait_until((workdir / "checkpoints/2").exists)
    pod.send(host, signal.SIGKILL)
    statuses, _ = pod.finish()
    assert statuses[host] == -signal.SIGKILL
    # jax itself ends a process that loses host 0.
    assert statuses[1 - host] == 1 if host else statuses[1 - host] != 0
    statuses, said = Pod(workdir, *DREAMER).finish()
    assert statuses == [0, 0], said[0][-3000:]
    assert "Resumed" in said[0] and digest(workdir) == digest(alone[0])


@pytest.mark.slow
def test_ctrl_c_ends_all_hosts_with_its_own_status(tmp_path):
    pod = Pod(tmp_path / "run", *DREAMER, environment={"TOY_SECONDS": "0.3"})
    pod.wait_until((tmp_path / "run/tasks.json").exists)
    pod.send(1, signal.SIGINT)
    assert pod.finish()[0] == [130, 130]


@pytest.mark.slow
def test_four_hosts_end_as_two_with_two_devices(tmp_path):
    flags = (*DREAMER, "--config.learning.batch=4")
    for name, count, devices in (("four", 4, 1), ("two", 2, 2)):
        statuses, said = Pod(tmp_path / name, *flags, hosts=count, devices=devices).finish()
        assert statuses == [0] * count, said[0][-3000:]
    assert digest(tmp_path / "four") == digest(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.0])
def test_both_feeds_of_offline_data_serve_two_hosts(tmp_path, share):
    """CoWorld: a source, a target, resident or streamed data; the data of each host are its own."""
    for host in range(2):
        (tmp_path / f"data{host}").mkdir()
        for index in range(3):
            episode = make_episode(index, 11, 2)
            save_episode(tmp_path / f"data{host}", episode, name=f"{index:06d}")
    flags = (
        f"--config={ROOT}/tests/tiny_run.py",
        "--config.source=toy_tasks:windy",
        "--config.target=toy_tasks:calm",
        f"--config.run.resident_share={share}",
    )
    own = {host: [f"--config.data={tmp_path}/data{host}"] for host in range(2)}
    for name, count, devices in (("two", 2, 1), ("one", 1, 2)):
        pod = Pod(tmp_path / name, *flags, own=own, hosts=count, devices=devices)
        statuses, said = pod.finish()
        assert statuses == [0] * count, said[0][-3000:]
    assert digest(tmp_path / "two") == digest(tmp_path / "one")


@pytest.mark.slow
def test_hosts_with_other_data_are_refused(tmp_path):
    for host in range(2):
        (tmp_path / f"data{host}").mkdir()
        save_three(tmp_path / f"data{host}")
    next((tmp_path / "data1").glob("*.npz")).unlink()
    flags = (
        f"--config={ROOT}/tests/tiny_run.py:bc",
        "--config.target=toy_tasks:wide",
    )
    own = {host: [f"--config.data={tmp_path}/data{host}"] for host in range(2)}
    statuses, said = Pod(tmp_path / "run", *flags, own=own).finish()
    assert statuses == [1, 1] and "On host 1" in said[0]


@pytest.mark.slow
def test_hosts_share_seeds(tmp_path):
    """Seeds of a planar run are split over the hosts; each ends as in a run of one process."""
    flags = (
        f"--config={ROOT}/tests/tiny_run.py:dreamer",
        "--config.source=planar/reach",
        "--config.run.seeds=2",
    )
    for name, count, devices in (("two", 2, 1), ("one", 1, 1)):
        statuses, said = Pod(tmp_path / name, *flags, hosts=count, devices=devices).finish()
        assert statuses == [0] * count, said[0][-3000:]
    found = [
        json.loads((tmp_path / name / "summary.json").read_text())["state_digests"]
        for name in ("two", "one")
    ]
    assert found[0] == found[1]
