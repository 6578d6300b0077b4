#!/usr/bin/env bash
# One line of a file of training commands on a Google Cloud TPU pod, until the run is finished. A
# pod that is preempted is asked for again, and the run goes on where it stopped.
#
# From an empty account to a finished run, eight steps:
#   1. Make a Google Cloud project with billing. Install gcloud, then:
#        gcloud auth login && gcloud config set project PROJECT
#        gcloud services enable tpu.googleapis.com file.googleapis.com
#   2. Ask for quota of a TPU type in a zone (console: IAM and admin, Quotas, "TPU").
#   3. Make a disk that outlives the pod, a Filestore share on the network of the pod:
#        gcloud filestore instances create share --zone=ZONE --tier=BASIC_HDD \
#            --file-share=name=share,capacity=1TB --network=name=default
#        gcloud filestore instances describe share --zone=ZONE   # its address, say 10.0.0.2
#   4. Copy the dataset to the share, from a small machine that mounts it.
#   5. Put commands whose paths begin with /mnt/share into a file:
#        .venv/bin/python -m experiments.study commands STUDY --root=/mnt/share/STUDY >commands.txt
#      A run of your own is a line, python -m experiments.train --config=... --workdir=...
#   6. Commit your changes: the pod gets the last commit of this repository.
#   7. POD=walker ZONE=us-west4-a TYPE=v5litepod-64 VERSION=v2-alpha-tpuv5-lite \
#        SHARE=10.0.0.2:/share SPOT=1 bash launch/tpu_pod.sh commands.txt 1
#   8. Read the results below /mnt/share, and delete the share.
# It costs one command for each run. Every new pod installs the packages anew, in some minutes.
#
# POD is a name of your choice; other lines run at the same time with other names. SPOT=1 asks for a
# pod that may be preempted. The pod is deleted when the run has ended, finished or not; KEEP=1
# keeps it, for the next line. Ctrl-C ends this script and leaves pod and run alone; the same command
# stops the run, and goes on with it. POLL is the number of seconds between two looks, 30.
#
# Exit status: 0 when the run has finished, otherwise that of a run that failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'tpu_pod: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

[[ $# -eq 2 && $2 =~ ^[1-9][0-9]*$ ]] || die "write a file of commands and the number of a line."
commands=$1 number=$2
[[ $commands == /* ]] || commands=$OLDPWD/$commands # the script has changed its folder
[[ -n $(sed -n "${number}p" "$commands") ]] || die "$commands has no line $number."
for name in POD ZONE TYPE VERSION SHARE; do
    [[ -n ${!name:-} ]] || die "$name is not set; the head of launch/tpu_pod.sh explains it."
done

tpus() { gcloud compute tpus "$1" "$2" "${@:3}" --zone="$ZONE" --quiet; }

state() { # READY, NONE, LOST, or what gcloud calls it
    local request machines
    request=$(tpus queued-resources list --filter="name~/queuedResources/$POD\$" \
        --format='value(state.state)') || { echo UNKNOWN; return; }
    machines=$(tpus tpu-vm list --filter="name~/nodes/$POD\$" --format='value(state)') \
        || { echo UNKNOWN; return; }
    case $request:$machines in
    :*) echo NONE ;;
    ACTIVE:READY) echo READY ;;
    # The request may stay ACTIVE for a while after its machines were taken away.
    FAILED:* | SUSPENDED:* | ACTIVE:PREEMPTED | ACTIVE:TERMINATED | ACTIVE:) echo LOST ;;
    *) echo "$request, its machines ${machines:-not there yet}" ;;
    esac
}

obtain() { # returns when the pod is there
    local now
    while true; do
        now=$(state)
        case $now in
        READY) return ;;
        NONE)
            say "asking for $POD, $TYPE in $ZONE"
            tpus queued-resources create "$POD" --node-id="$POD" --accelerator-type="$TYPE" \
                --runtime-version="$VERSION" ${SPOT:+--spot}
            ;;
        LOST)
            say "$POD is lost; asking for another"
            tpus queued-resources delete "$POD" --force
            ;;
        *) say "$POD is $now" ;;
        esac
        sleep "${POLL:-30}"
    done
}

# The next two run on each host of the pod. A run that a lost connection left behind is stopped
# first: it saves, and frees the chips. Ubuntu 22.04 has Python 3.10, which is too old, and updates
# itself when it starts, so apt-get waits for its lock.
set_up() { # SHARE
    set -euo pipefail
    local earlier
    earlier=$(cat run.pid 2>/dev/null || true)
    if [[ -n $earlier ]] && grep -qa experiments.train "/proc/$earlier/cmdline" 2>/dev/null; then
        kill "$earlier"
        timeout 120 tail --pid="$earlier" -f /dev/null || kill -9 "$earlier"
    fi
    sudo rm -f /tmp/libtpu_lockfile
    sudo apt-get -o DPkg::Lock::Timeout=600 -qq update
    sudo apt-get -o DPkg::Lock::Timeout=600 -qq install -y nfs-common python3.11 python3.11-venv \
        libegl1 libgl1 libosmesa6 >/dev/null
    sudo mkdir -p /mnt/share
    mountpoint -q /mnt/share || sudo mount -t nfs "$1" /mnt/share
    mkdir -p coworld_jax
    tar -xzf coworld_jax.tar.gz -C coworld_jax
    PYTHON=python3.11 bash coworld_jax/launch/setup_env.sh envs,tpu
}

# Port 8476 is open between the hosts, jax's own choice 8482 is not.
run() { # LINE
    echo $$ >run.pid
    export JAX_COORDINATOR_PORT=8476
    exec bash coworld_jax/launch/run_line.sh "$HOME/commands.txt" "$1" --hosts=auto
}

everywhere() { # FUNCTION ARGUMENT: on all hosts
    tpus tpu-vm ssh "$POD" --worker=all --command="$(declare -f "$1"); $(printf '%q ' "$@")"
}

carry_out() {
    tpus tpu-vm scp "$bundle/coworld_jax.tar.gz" "$bundle/commands.txt" "$POD:" --worker=all \
        && everywhere set_up "$SHARE" && everywhere run "$number"
}

bundle=$(mktemp -d)
trap 'rm -rf "$bundle"' EXIT
git archive --format=tar.gz --output="$bundle/coworld_jax.tar.gz" HEAD
cp "$commands" "$bundle/commands.txt"

tpus queued-resources list >/dev/null || die "gcloud does not work, see above."
lost=0
while true; do
    obtain
    status=0
    carry_out || status=$?
    [[ $status -ne 0 ]] || break
    sleep "${POLL:-30}" # a pod that was taken away says so a little later
    now=$(state)
    case $status:$now in
    143:*) say "the run was stopped; it goes on" ;;
    255:*)
        ((++lost < 20)) || { say "the connection was lost 20 times, see above"; break; }
        say "the connection was lost; the run goes on"
        ;;
    *:READY)
        say "the run failed with status $status, see above"
        break
        ;;
    *) say "the pod went away under the run: it is $now" ;;
    esac
done
[[ -n ${KEEP:-} ]] || tpus queued-resources delete "$POD" --force
exit "$status"
