"""Configuration file of the tiny run, for tests that start the real command."""

import dataclasses
import sys
from pathlib import Path

from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).parent))
import tiny


def get_config() -> ConfigDict:
    """`tiny.CONFIG`."""
    return ConfigDict(dataclasses.asdict(tiny.CONFIG))
