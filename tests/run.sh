#!/usr/bin/env bash
# Sets the environment up where needed, then runs the tests; arguments go to pytest:
#
#   bash tests/run.sh                    # everything but the slow tests
#   bash tests/run.sh -m slow            # the slow ones
#   bash tests/run.sh tests/test_data.py -k truncated
#   bash tests/run.sh -n0 --pdb tests/test_data.py  # in one process, where a debugger works
#
# Two processes share the files; a file's tests stay together, as they share what they compile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup_env.sh +envs,dev
exec .venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
