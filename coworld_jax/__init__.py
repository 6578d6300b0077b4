"""Offline visual reinforcement learning helped by an online source: CoWorld and its baselines.

Import the floor that you need, for example ``coworld_jax.losses`` or ``coworld_jax.returns``.
Nothing is imported here, so that simulator workers start without jax.
"""
