"""How much arithmetic an update is, from the sizes of its layers alone.

The count is of the algorithm's work as the paper's reference does it, not of what a program happens
to execute: work that is avoided shows as speed, padding and recomputation as slowness. Functions
count multiply-adds for one example; `update_flops` doubles them.
"""

from __future__ import annotations

from coworld_jax.config import LearningConfig, NetworkConfig

# Kernel size and output size (encoder) or input size (decoder) of each convolution, 64x64 images.
_ENCODER = ((4, 31), (4, 14), (4, 6), (4, 2))
_DECODER = ((5, 1), (5, 5), (6, 13), (6, 30))


def encoder(network: NetworkConfig) -> int:
    """One image to its embedding: ``Σ outputs² kernel² in out``."""
    total, channels = 0, 3
    for layer, (kernel, size) in enumerate(_ENCODER):
        features = network.depth * 2**layer
        total += (size * kernel) ** 2 * channels * features
        channels = features
    return total


def decoder(network: NetworkConfig) -> int:
    """One feature to its image: a linear layer, then ``Σ inputs² kernel² in out``."""
    depth, channels = network.depth, 32 * network.depth
    total = feature_size(network) * channels
    for (kernel, size), features in zip(_DECODER, (4 * depth, 2 * depth, depth, 3), strict=True):
        total += (size * kernel) ** 2 * channels * features
        channels = features
    return total


def feature_size(network: NetworkConfig) -> int:
    """F = S + D."""
    return network.groups * network.classes + network.deter


def _stats(network: NetworkConfig) -> int:
    categorical = network.latent == "categorical"
    return network.groups * network.classes if categorical else 2 * network.groups


def prior(network: NetworkConfig, action_size: int) -> int:
    """One step of the recurrence and its prior."""
    recur = (network.groups * network.classes + action_size) * network.hidden
    recur += (network.hidden + network.deter) * 3 * network.deter
    return recur + network.deter * network.hidden + network.hidden * _stats(network)


def posterior(network: NetworkConfig) -> int:
    """Statistics of the posterior from ``h`` and the embedding."""
    embed = 32 * network.depth
    return (network.deter + embed) * network.hidden + network.hidden * _stats(network)


def head(network: NetworkConfig, layers: int, outputs: int = 1) -> int:
    """One head: ``layers`` hidden layers and an output."""
    size, total = feature_size(network), 0
    for _ in range(layers):
        total += size * network.units
        size = network.units
    return total + size * outputs


def update_flops(
    kind: str, network: NetworkConfig, learning: LearningConfig, action_size: int
) -> int:
    """FLOPs of one update; training a layer costs three times its forward pass.

    Args:
        kind: ``target`` (couplings A and C), ``world_model`` (A), or ``source`` (B).
        action_size: A.
    """
    rssm = prior(network, action_size) + posterior(network)
    reward = head(network, network.reward_layers)
    critic = head(network, network.critic_layers)
    actor = head(network, network.actor_layers, 2 * action_size)
    heads = reward
    if network.discount_head:
        heads += head(network, network.continue_layers)
    states = learning.batch * learning.length
    imagined = states * learning.horizon
    total = 3 * states * (encoder(network) + decoder(network) + rssm + heads)
    if kind in ("target", "world_model"):
        total += states * encoder(network)  # the source's, for coupling A
    else:
        total += 3 * states * (encoder(network) + rssm + 2 * reward)
    if kind in ("target", "source"):
        total += 3 * imagined * (prior(network, action_size) + actor + heads + critic)
        total += 3 * imagined * critic + imagined * critic  # the regression; the slow critic
    if kind == "target":
        total += imagined * critic  # the source's, for coupling C
    return 2 * total
