"""The files that clusters and container builders read. None of these systems runs here."""

from __future__ import annotations

import copy
import fnmatch
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ROOT / "launch"
JOBSET_SCHEMA = ROOT.parent / "shared" / "schemas" / "jobset-crd.yaml"
QUEUE = "kueue.x-k8s.io/queue-name"


def documents(name, line="3"):
    """The documents of a file, for one line of a file of commands."""
    return list(yaml.safe_load_all((LAUNCH / name).read_text().replace("LINE", line)))


def strict(schema):
    """``schema``, where an object has only the keys that it names."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(part) for key, part in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


# --- JobSet ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jobset_schema():
    if not JOBSET_SCHEMA.is_file():
        pytest.skip(f"the schema of JobSet is not here: {JOBSET_SCHEMA}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(JOBSET_SCHEMA.read_text(), loader)
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1alpha2")
    return jsonschema.Draft7Validator(strict(version["schema"]["openAPIV3Schema"]))


@pytest.fixture
def jobset():
    (jobset,) = documents("jobset.yaml")
    return jobset


def check_job(jobset):
    """The Job of each group of hosts, against Kubernetes' schema; unknown keys are refused."""
    for group in jobset["spec"]["replicatedJobs"]:
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": group["name"]},
            **copy.deepcopy(group["template"]),
        }
        version = kubernetes_validate.latest_version()
        kubernetes_validate.validate(job, version, strict=True)


def hosts(jobset):
    (group,) = jobset["spec"]["replicatedJobs"]
    return group["template"]["spec"]


def test_the_job_of_a_host_is_one_for_kubernetes(jobset):
    check_job(jobset)


@pytest.mark.parametrize(
    "misspell",
    [
        lambda job: job.update(backofLimit=job.pop("backoffLimit")),
        lambda job: job["template"]["spec"].update(nodeSelektor={}),
        lambda job: job["template"]["spec"]["containers"][0].update(arg=[]),
        lambda job: job.update(completions="sixteen"),
    ],
)
def test_a_mistake_in_the_job_is_noticed(jobset, misspell):
    misspell(hosts(jobset))
    with pytest.raises(kubernetes_validate.ValidationError):
        check_job(jobset)


def test_the_jobset_is_one_for_its_controller(jobset, jobset_schema):
    jobset_schema.validate(jobset)


@pytest.mark.parametrize(
    "misspell",
    [
        lambda spec: spec.update(failurePolicies={}),
        lambda spec: spec["failurePolicy"].update(maxRestart=1),
        lambda spec: spec["failurePolicy"]["rules"][0].update(action="Restart"),
        lambda spec: spec["replicatedJobs"][0].update(replica=1),
        lambda spec: hosts({"spec": spec}).update(backofLimit=0),
    ],
)
def test_a_mistake_in_the_jobset_is_noticed(jobset, jobset_schema, misspell):
    misspell(jobset["spec"])
    with pytest.raises(jsonschema.ValidationError):
        jobset_schema.validate(jobset)


def test_a_jobset_carries_out_its_line_on_each_host_and_starts_again_when_stopped(jobset):
    job = hosts(jobset)
    assert jobset["metadata"]["name"] == "coworld-3"
    assert job["parallelism"] == job["completions"] and job["backoffLimit"] == 0
    (container,) = job["template"]["spec"]["containers"]
    program, script, commands, line, flag = container["args"]
    assert (program, line, flag) == ("bash", "3", "--hosts=auto")
    assert (ROOT / script).is_file() and "command" not in container
    assert commands.startswith(container["volumeMounts"][0]["mountPath"])
    preempted, stopped = job["podFailurePolicy"]["rules"]
    assert preempted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert stopped["onExitCodes"]["values"] == [143]
    assert stopped["onExitCodes"]["containerName"] == container["name"]


def test_the_queue_and_the_disk_are_those_that_the_jobset_asks_for(jobset):
    flavor, cluster, queue, claim = documents("kueue.yaml")
    assert jobset["metadata"]["labels"][QUEUE] == queue["metadata"]["name"]
    assert queue["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    (group,) = cluster["spec"]["resourceGroups"]
    (chips,) = group["flavors"]
    assert chips["name"] == flavor["metadata"]["name"]
    job = hosts(jobset)
    pod = job["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    assert list(limits) == group["coveredResources"] == [chips["resources"][0]["name"]]
    assert chips["resources"][0]["nominalQuota"] >= job["parallelism"] * sum(limits.values())
    assert flavor["spec"]["nodeLabels"].items() <= pod["nodeSelector"].items()
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(claim, version, strict=True)


# --- SkyPilot -------------------------------------------------------------------------------------


def test_a_machine_of_skypilot_tells_the_run_where_the_first_one_is(tmp_path):
    """Its schema lets unknown keys pass, so this runs the script instead."""
    (task,) = documents("skypilot.yaml", line="LINE")
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [143]
    subprocess.run(["bash", "-n", "-c", task["setup"]], check=True)
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "run_line.sh").write_text('echo "$*"\n')
    script = task["run"].replace("/coworld_jax", str(tmp_path))
    given = {
        "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "LINE": "3",
    }
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, **given}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "/mnt/share/commands.txt 3 --hosts=10.0.0.7:8476,2,1"


# --- the image ------------------------------------------------------------------------------------


def instructions():
    """Instructions of the Dockerfile as pairs of a name and its arguments."""
    text = (LAUNCH / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_the_image_installs_what_the_tests_install():
    steps = instructions()
    installs = [arguments for name, arguments in steps if name == "RUN" and "setup" in arguments]
    assert len(installs) == 1 and installs[0].startswith('bash launch/setup_env.sh "$EXTRAS"')
    assert ("ARG", "EXTRAS=envs") in steps
    assert not any("pip " in arguments for name, arguments in steps if name == "RUN")
    (home,) = (arguments for name, arguments in steps if name == "WORKDIR")
    assert f"{home}/launch/run_line.sh" in (LAUNCH / "skypilot.yaml").read_text()


def test_what_the_image_copies_is_there_and_not_left_out():
    ignored = [
        line.removeprefix("**/")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    for name, arguments in instructions():
        if name == "COPY":
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored), source


def test_the_image_that_the_clusters_name_has_the_extras_that_exist():
    text = (LAUNCH / "Dockerfile").read_text()
    tags = dict(re.findall(r"EXTRAS=(\S+) --tag=REGISTRY/(coworld-jax:\w+)", text))
    extras = (ROOT / "setup.py").read_text()
    assert all(f'"{extra}": ' in extras for names in tags for extra in names.split(","))
    assert documents("skypilot.yaml")[0]["resources"]["image_id"] == (
        f"docker:REGISTRY/{tags['envs,cuda']}"
    )
    container = hosts(documents("jobset.yaml")[0])["template"]["spec"]["containers"][0]
    assert container["image"] == f"REGISTRY/{tags['envs,tpu']}"
