"""The table of methods: a method is entered here and nowhere else."""

from coworld_jax.method import Entry
from coworld_jax.methods.coworld import CoWorldSettings, make_coworld, needed_domains

METHODS = {
    "coworld": Entry(CoWorldSettings, make_coworld, needed_domains),
}

DEFAULT = "coworld"
"""The method of a run that names none."""
