#!/usr/bin/env bash
# Sets the environment up where needed, then runs the tests; arguments go to pytest:
#
#   bash tests/run.sh                    # everything but the slow tests
#   bash tests/run.sh -m slow            # the slow ones
#   bash tests/run.sh tests/test_data.py -k truncated
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup_env.sh
exec .venv/bin/python -m pytest "$@"
