"""Installs coworld_jax and its commands. Ranges are here, the exact set that is tested in
constraints.txt: ``pip install -c constraints.txt -e '.[envs,dev]'``; BUILD.md has the reasons.
"""

from pathlib import Path

from setuptools import find_namespace_packages, setup

setup(
    name="coworld_jax",
    version="0.1.0",
    description="CoWorld in JAX: offline visual reinforcement learning helped by an online source",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_namespace_packages(include=["coworld_jax*", "experiments*"]),
    install_requires=[
        "absl-py>=2.1",
        "chex>=0.1.90",
        "flax>=0.12,<0.13",
        "jax>=0.10,<0.12",
        "matplotlib>=3.9",
        "ml_collections>=1.0,<2",
        "numpy>=2.0,<3",
        "optax>=0.2.5,<0.3",
        "orbax-checkpoint>=0.11.30,<0.13",
        "pillow>=10",
    ],
    extras_require={
        "envs": [
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
            "av>=14",
            "h5py>=3.11",
            "minari>=0.5.4,<0.6",
            "mypy>=2.4,<3",
            "pygame>=2.6,<3",
            "pytest>=8",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.17,<0.18",
        ],
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "tensorboard": ["tensorboard>=2.18", "tensorboardX>=2.6,<3"],
        "wandb": ["wandb>=0.19"],
    },
)
