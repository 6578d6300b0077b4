"""Environments that are functions of jax: no simulator, no worker process, no screen.

* ``interface``: what such an environment is; ``own``: how a user's own becomes one.
* ``planar``: names, dials and variants of the planar suite; ``reach``, ``arm`` and ``push`` are its
  scenes, ``body`` the body that two of them share, ``drawing`` and ``looks`` their pictures.
* ``options``: what any of these environments can have: a delay, noise, another reward.
* ``rollout`` plays many episodes in one compiled call, ``pool`` is the `EnvironmentPool` on top of
  it, ``stepping`` the `Environment` that is called step by step.

Nothing is imported here, and the names of tasks need no jax: simulator workers start without it.
"""
