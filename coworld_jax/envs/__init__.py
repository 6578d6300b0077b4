"""Simulators behind one interface: named tasks, seeded episodes, frames from worker processes.

A task is named ``suite/task``, or ``module:function`` where it is a user's own.
``make_environment`` makes one in this process; ``EnvironmentPool`` collects whole episodes from
spawned processes that hold the simulators. No simulator is imported before an environment is made,
and jax only for the environments that are functions of it, see ``jittable``.
"""

from coworld_jax.envs.adapters import from_dm_env, from_gymnasium
from coworld_jax.envs.graphics import GraphicsError
from coworld_jax.envs.interface import Environment, EnvironmentSpec, Policy, Request, Timestep
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.jittable.own import jittable, jittable_spec
from coworld_jax.envs.policies import RandomPolicy
from coworld_jax.envs.pool import EnvironmentPool, ready
from coworld_jax.envs.process import WorkerFailed, refuse_in_worker
from coworld_jax.envs.rendering import PROFILES
from coworld_jax.envs.seeding import episode_seed
from coworld_jax.envs.suites import TASKS, make_environment
from coworld_jax.envs.versions import VersionError

__all__ = [
    "PROFILES",
    "TASKS",
    "Environment",
    "EnvironmentPool",
    "EnvironmentSpec",
    "GraphicsError",
    "JittableEnvironment",
    "Policy",
    "RandomPolicy",
    "Request",
    "Timestep",
    "VersionError",
    "WorkerFailed",
    "episode_seed",
    "from_dm_env",
    "from_gymnasium",
    "jittable",
    "jittable_spec",
    "make_environment",
    "ready",
    "refuse_in_worker",
]
