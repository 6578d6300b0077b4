"""How much arithmetic an update is, from the sizes of its layers alone.

The count is of the algorithm's work as the paper's reference does it, not of what a program happens
to execute: work that is avoided shows as speed, padding and recomputation as slowness. Functions
count multiply-adds for one example; `update_parts` doubles them.
"""

from __future__ import annotations

from coworld_jax.agents.dreamer.settings import LearningConfig, NetworkConfig
from coworld_jax.networks.vision import DECODER, ENCODER, Layer


def convolution(layer: Layer, depth: int) -> int:
    """One image through one layer: ``windows² kernel² in out``."""
    windows = layer.size if layer.transpose else (layer.size - layer.kernel) // 2 + 1
    channels, features = layer.channels(depth)
    return (windows * layer.kernel) ** 2 * channels * features


def encoder(network: NetworkConfig) -> int:
    """One image to its embedding."""
    return sum(convolution(layer, network.depth) for layer in ENCODER)


def decoder(network: NetworkConfig) -> int:
    """One feature to its image: a linear layer, then the transposed convolutions."""
    linear = feature_size(network) * 32 * network.depth
    return linear + sum(convolution(layer, network.depth) for layer in DECODER)


def state_encoder(network: NetworkConfig, state_size: int) -> int:
    """One state to its embedding."""
    return _dense(state_size, network.state_layers, network.units, 32 * network.depth)


def state_decoder(network: NetworkConfig, state_size: int) -> int:
    """One feature to its state."""
    return _dense(feature_size(network), network.state_layers, network.units, state_size)


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
    return _dense(feature_size(network), layers, network.units, outputs)


def _dense(size: int, layers: int, units: int, outputs: int) -> int:
    """``layers`` hidden layers of ``units``, and an output."""
    total = 0
    for _ in range(layers):
        total += size * units
        size = units
    return total + size * outputs


def update_parts(
    kind: str,
    network: NetworkConfig,
    learning: LearningConfig,
    action_size: int,
    state_size: int = 0,
) -> dict[str, int]:
    """FLOPs of one update, part by part; training a layer costs three times its forward pass.

    Args:
        kind: ``target`` (couplings A and C), ``world_model`` (A), ``source`` (B), or ``pretrain``
            (a source without couplings).
        action_size: A.
        state_size: N of the state that the source reads; 0 where it reads images.

    Returns:
        Names as ``world model/encoder`` or ``behaviour/slow critic``.
    """
    reward = head(network, network.reward_layers)
    critic = head(network, network.critic_layers)
    heads = {"reward head": reward}
    if network.discount_head:
        heads["continue head"] = head(network, network.continue_layers)
    filtering = {
        "recurrence, prior": prior(network, action_size),
        "posterior": posterior(network),
    }
    seeing = {"encoder": encoder(network), "decoder": decoder(network)}
    reading = {
        "state encoder": state_encoder(network, state_size),
        "state decoder": state_decoder(network, state_size),
        "bridge": encoder(network),
    }
    learns_source = kind in ("source", "pretrain")
    parts: dict[str, int] = {}

    def add(room: str, times: int, examples: int, counted: dict[str, int]) -> None:
        parts.update(
            {f"{room}/{name}": 2 * times * examples * count for name, count in counted.items()}
        )

    states = learning.batch * learning.length
    imagined = states * learning.horizon
    own = reading if state_size and learns_source else seeing
    add("world model", 3, states, filtering | own | heads)
    if kind in ("target", "world_model"):
        # Of images in any case: its own, or its bridge.
        add("coupling A", 1, states, {"source's encoder": encoder(network)})
    if kind == "source":
        # The reward head of source and target batch, both in the aligned loss.
        across = filtering | {"encoder": encoder(network)}
        add("coupling B", 3, states, across | {"reward heads": 2 * reward})
    if kind != "world_model":
        actor = head(network, network.actor_layers, 2 * action_size)
        rollout = {"recurrence, prior": prior(network, action_size), "actor": actor} | heads
        add("behaviour", 3, imagined, rollout | {"critic, of the return": critic})
        add("behaviour", 3, imagined, {"critic, its regression": critic})
        add("behaviour", 1, imagined, {"slow critic": critic})
    if kind == "target":
        add("coupling C", 1, imagined, {"source's critic": critic})
    return parts


def update_flops(
    kind: str,
    network: NetworkConfig,
    learning: LearningConfig,
    action_size: int,
    state_size: int = 0,
) -> int:
    """FLOPs of one update: the sum of `update_parts`, same arguments."""
    return sum(update_parts(kind, network, learning, action_size, state_size).values())
