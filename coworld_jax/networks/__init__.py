"""The networks of one DreamerV2 agent: the only place that knows flax.linen."""

from coworld_jax.networks.convolution import convolve, convolve_transpose
from coworld_jax.networks.heads import MLP, ActorHead
from coworld_jax.networks.rssm import RSSM
from coworld_jax.networks.vector import StateDecoder, StateEncoder
from coworld_jax.networks.vision import Decoder, Encoder

__all__ = [
    "MLP",
    "RSSM",
    "ActorHead",
    "Decoder",
    "Encoder",
    "StateDecoder",
    "StateEncoder",
    "convolve",
    "convolve_transpose",
]
