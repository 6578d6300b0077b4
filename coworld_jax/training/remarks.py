"""What a user should know of settings and data that do not go well together."""

from __future__ import annotations

from coworld_jax import config as configuration
from coworld_jax.config import Config
from coworld_jax.method import Method

_DISCOUNT_HEAD = "network.discount_head"


def imagines_beyond_ends(config: Config, method: Method, episodes: str) -> list[str]:
    """A remark where episodes end with discount 0, and no head predicts that.

    A method that does not imagine gets none.

    Args:
        config: of the run.
        method: of the run.
        episodes: which ones end so, for the sentence.
    """
    settings = configuration.flatten(config)
    if method.ignores_ends:
        return [
            f"{episodes} end with discount 0, but {config.method} has no discount head: it expects "
            "rewards beyond the end."
        ]
    if _DISCOUNT_HEAD not in settings or settings[_DISCOUNT_HEAD]:
        return []
    return [
        f"{episodes} end with discount 0, but without a discount head rewards are imagined beyond "
        f"the end: --config.{_DISCOUNT_HEAD}=true adds one."
    ]
