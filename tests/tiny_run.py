"""Configuration file of the tiny run, for tests that start the real command."""

import sys
from pathlib import Path

from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).parent))
import tiny

from experiments.configs.pairs import as_config_dict


def get_config(text: str = "") -> ConfigDict:
    """`tiny.CONFIG`, or the tiny configuration of the method that ``text`` names."""
    return as_config_dict(tiny.of_method(text) if text else tiny.CONFIG)
