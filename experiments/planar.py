"""Pages of pictures of the planar suite, one for each task and each named variant.

    python -m experiments.planar --out=experiments/results/planar

The page of a variant has two rows: the scene as it is without options, and the task; the same seed,
and the same actions as far as both take them. The page of a scene has one row.
`experiments/results/planar_suite.md` shows the pages.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags
from PIL import Image

from coworld_jax.envs.jittable import planar
from experiments.command import as_path, one_sentence
from experiments.planar_pages import page

_OUT = flags.DEFINE_string("out", None, "Directory of the pages; made when missing.", required=True)
_SEED = flags.DEFINE_integer("seed", 8, "Of the episodes.", lower_bound=0)


def main(arguments: Sequence[str]) -> None:
    """Draw what the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    out = as_path(_OUT.value)
    with one_sentence("planar: interrupted."):
        out.mkdir(parents=True, exist_ok=True)
        for name in planar.tasks():
            picture = Image.fromarray(page(name, _SEED.value))
            # One byte for each pixel; the method keeps rare colours, as a joint's, apart.
            small = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            small.save(out / f"{name}.png", optimize=True)
    print(f"{out}: {len(planar.tasks())} pages")


if __name__ == "__main__":
    app.run(main)
