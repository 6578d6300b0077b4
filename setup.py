"""Installs coworld_jax. Ranges are here, the exact set that is tested in constraints.txt:
``pip install -c constraints.txt -e '.[envs,dev]'``; BUILD.md has the reasons.

``pip install .`` brings the package and what its losses need. Training needs the extra ``train``,
and simulators the extra ``envs``, which includes it.
"""

from pathlib import Path

from setuptools import find_namespace_packages, setup

# What training needs without a simulator.
TRAIN = [
    "absl-py>=2.1",
    "flax>=0.12,<0.13",
    "matplotlib>=3.9",
    "ml_collections>=1.0,<2",
    "optax>=0.2.5,<0.3",
    "orbax-checkpoint>=0.11.30,<0.13",
    "pillow>=10",
    "scipy>=1.15",  # older ones were not tried
]

setup(
    name="coworld_jax",
    version="0.1.0",
    description="CoWorld and its baselines in JAX: offline visual reinforcement learning",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # The commands are no library: `python -m experiments.train` runs them from the repository.
    packages=find_namespace_packages(include=["coworld_jax", "coworld_jax.*"]),
    package_data={"coworld_jax.networks": ["*.cc", "*.h"]},
    install_requires=[  # what the losses need
        "chex>=0.1.90",
        "jax>=0.10,<0.12",
        "numpy>=2.0,<3",
    ],
    extras_require={
        "train": TRAIN,
        "envs": [
            *TRAIN,
            "dm_control==1.0.28",
            "gymnasium>=1.1,<2",
            "metaworld==3.1.1",
            "mujoco==3.3.0",
            "packaging",
            "robodesk==1.0.0",
        ],
        "data": ["gymnasium>=1.1,<2", "h5py>=3.11", "minari>=0.5.4,<0.6"],
        "video": ["av>=14"],
        "dev": [
            *TRAIN,
            "av>=14",
            "h5py>=3.11",
            "jsonschema>=4.23,<5",
            "kubernetes-validate>=1.33",
            "minari>=0.5.4,<0.6",
            "mypy>=2.4,<3",
            "pygame>=2.6,<3",
            "pytest>=8",
            "pytest-xdist>=3.6,<4",
            "pyyaml>=6",
            "ruff>=0.17,<0.18",
        ],
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "tensorboard": ["tensorboard>=2.18", "tensorboardX>=2.6,<3"],
        "wandb": ["wandb>=0.19.10"],
    },
)
