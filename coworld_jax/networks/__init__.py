"""The networks of every agent: the only place that knows flax.linen."""

from coworld_jax.networks.cloning import CloningHead
from coworld_jax.networks.convolution import convolve, convolve_transpose
from coworld_jax.networks.ensemble import EnsembleRSSM
from coworld_jax.networks.features import FeatureActor, FeatureCritic
from coworld_jax.networks.heads import MLP, ActorHead
from coworld_jax.networks.pixels import PixelActor, PixelEncoder, TwinCritic
from coworld_jax.networks.resnet import ResNet, resnet_params
from coworld_jax.networks.rssm import OBSERVING, RSSM
from coworld_jax.networks.vector import StateDecoder, StateEncoder
from coworld_jax.networks.vision import Decoder, Encoder

__all__ = [
    "MLP",
    "OBSERVING",
    "RSSM",
    "ActorHead",
    "CloningHead",
    "Decoder",
    "Encoder",
    "EnsembleRSSM",
    "FeatureActor",
    "FeatureCritic",
    "PixelActor",
    "PixelEncoder",
    "ResNet",
    "StateDecoder",
    "StateEncoder",
    "TwinCritic",
    "convolve",
    "convolve_transpose",
    "resnet_params",
]
