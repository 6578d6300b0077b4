"""DeepMind Control: source and target are variants of walker or cheetah.

    python -m experiments.train --config=experiments/configs/dmc.py:small \\
        --config.source=dmc/walker_walk --config.target=dmc/walker_downhill \\
        --config.data=DIR --workdir=runs/x

Presets: ``paper``, ``released``, ``small`` and ``quickstart``. All use the paper's coupling weights
for this suite: beta_2 = 1.5, k = 0.9, alpha = 1.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from coworld_jax.config import PRESETS, closest


def get_config(preset: str = "small") -> ConfigDict:
    """The preset as a `ConfigDict`, whose fields the command line overrides."""
    if preset not in PRESETS:
        raise ValueError(f"Unknown preset {preset}: {closest(preset, PRESETS)}")
    return ConfigDict(dataclasses.asdict(PRESETS[preset]()))
