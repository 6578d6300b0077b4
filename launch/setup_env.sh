#!/usr/bin/env bash
# Makes .venv at the repository root and installs the project with its pinned dependencies.
#
#   bash launch/setup_env.sh               # CPU, simulators, development tools
#   bash launch/setup_env.sh envs,dev,cuda # the extras of setup.py, by name; remembered
#   bash launch/setup_env.sh dev           # without simulators, which the planar suite does not need
#   bash launch/setup_env.sh +envs,dev     # in addition to those that are there
#
# Safe to run again: pip runs only when the dependencies, the extras or the interpreter changed.
# PYTHON=/path/to/python3.12 chooses the interpreter of a new environment.
# Exit status 3: everything is installed, but nothing renders here; the planar suite needs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
cannot_render() { printf 'setup: %s\n' "$*" >&2; exit 3; }

suitable() { # an interpreter that runs and is new enough
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate candidates=(python3 python3.12 python3.11 python3.13)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if suitable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no Python 3.11 to 3.13 among: ${PYTHON:-python3, python3.12, python3.11, python3.13};" \
        "install one (Debian 12: apt-get install python3 python3-venv) or set PYTHON=/path/to/python3."
}

make_venv() {
    local python
    python=$(find_python)
    "$python" -c 'import ensurepip' 2>/dev/null \
        || die "$python has no ensurepip: apt-get install python3-venv, then run this again."
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

install() {
    local extras=$1 stamp=.venv/coworld_jax.stamp wanted
    wanted="$extras $(cat setup.py constraints.txt \
        <(.venv/bin/python -c 'import sys; print(sys.version, sys.prefix)') | cksum)"
    if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
        say "dependencies are up to date ($extras)"
        return
    fi
    rm -f "$stamp" # an interrupted installation is started again
    say "installing coworld_jax[$extras]; a fresh one takes minutes"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".[$extras]"
    printf '%s\n' "$wanted" >"$stamp"
}

join() { # NAMES NAMES: lists with commas, each name once
    tr ',' '\n' <<<"$1,$2" | sed '/^$/d' | awk '!seen[$0]++' | paste -s -d ',' -
}

# Headless rendering: EGL, then OSMesa, tried in a process of its own.
renders() { .venv/bin/python -m coworld_jax.envs.probe; }

install_renderers() {
    local package missing=(libegl1 libgl1 libosmesa6)
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        cannot_render "no headless renderer; install the Debian packages and run this again:" \
            "sudo apt-get install ${missing[*]}"
    fi
    say "no headless renderer yet: installing ${missing[*]}"
    apt-get update -qq
    for package in "${missing[@]}"; do # newer releases have no libosmesa6, and EGL is enough
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
            >/dev/null || say "could not install $package"
    done
}

# Two set-ups at once (tests beside a run) take turns.
mkdir -p .cache
if command -v flock >/dev/null; then
    exec 9>.cache/setup.lock
    flock 9
fi

.venv/bin/python -c 'import pip' 2>/dev/null || make_venv
suitable .venv/bin/python \
    || die ".venv holds $(.venv/bin/python --version); remove .venv and run this again."
remembered=$(cut -d ' ' -f 1 .venv/coworld_jax.stamp 2>/dev/null || true)
extras=${1:-${remembered:-envs,dev}}
if [[ $extras == +* ]]; then
    extras=$(join "$remembered" "${extras#+}")
fi
install "$extras"
if [[ -z ${CXX+set} ]] && ! command -v c++ >/dev/null; then
    say "there is no C++ compiler, so training on a CPU will take longer (Debian: apt-get install g++)"
fi
if [[ ,$extras, == *,envs,* ]]; then
    renders || { install_renderers; renders; } \
        || cannot_render "headless rendering still fails, see above."
fi
