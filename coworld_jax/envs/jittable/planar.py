"""The planar suite: names of its tasks, their dials and the variants that have a name.

Three scenes seen from above, drawn at 64 x 64, 100 env_steps an episode:

* ``planar/reach``: a body with three thrusters goes to a marked place;
* ``planar/arm``: the tip of an arm with two joints follows a place that goes round;
* ``planar/push``: the body of ``reach`` pushes a ring that is around it to a place.

Each gap between a source and a target that the paper's Table 1 names is a dial, an option of the
task's name: ``planar/reach+camera=30+mirrored``. A variant is a name for some options, and takes
further ones; an option that is given replaces the variant's.

| gap | option | meaning | default |
|---|---|---|---|
| camera | ``camera=DEGREES`` | the picture turns anticlockwise | 0 |
| | ``zoom=F`` | everything appears F times as large | 1 |
| | ``mirrored`` | left and right change places, pixel for pixel | |
| looks | ``palette=NAME`` | day, night or desk | day |
| | ``texture=NAME`` | of the ground: plain, checks, stripes or rings | plain |
| | ``background`` | moving waves in place of the ground | |
| dynamics | ``gravity=G`` | units/s² down the picture, of an unturned camera; may be negative | 0 |
| | ``damping=F`` | F times the usual friction | 1 |
| | ``gain=F`` | F times the usual force of each limb | 1 |
| | ``delay=K`` | an action has its effect K env_steps late | 0 |
| | ``dead=I`` | thruster or joint I, counted from 0, does nothing and is not drawn | none |
| task | ``goal=NAME`` | arm: orbit, still; push: ring, body, middle | the first |
| | ``anywhere`` | the place is another one in each episode, which is harder | |
| action size | ``extra`` | one thruster or joint more | |
| reward | ``reward=F`` | F times the usual reward | 1 |
| | ``sparse`` | 500 for each env_step with success, otherwise 0; times ``reward`` | |
| action noise | ``noise=W`` | ``a + W * n`` is executed where the agent chose ``a`` | 0 |

``goal=still``: the place rests. ``goal=body``: the body itself goes to the place. ``goal=middle``:
the body goes to the ring's middle.

Without ``anywhere`` a task has one place (that of ``arm`` goes half round a circle and starts
anywhere on it). A small agent whose replay holds few episodes has seen as few places: its model
does not predict the reward of others, and the agent does not learn in minutes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from coworld_jax.envs.interface import Request
from coworld_jax.envs.jittable.own import jittable_spec
from coworld_jax.envs.naming import TaskName, parse_task

if TYPE_CHECKING:
    from coworld_jax.envs.jittable.interface import JittableEnvironment

_SIMULATOR_STEPS = 100  # of an episode
_PROFILE = "fast"  # whatever was asked for: both profiles draw the same
# Scene: its limbs without ``extra``, and its goals, the usual one first.
_LIMBS = {"arm": 2, "push": 3, "reach": 3}
_GOALS = {"arm": ("orbit", "still"), "push": ("ring", "body", "middle"), "reach": ("body",)}
PALETTES = ("day", "night", "desk")
TEXTURES = ("plain", "checks", "stripes", "rings")

OPTIONS = frozenset(
    {
        *("anywhere", "background", "camera", "damping", "dead", "delay", "extra", "gain", "goal"),
        *("gravity", "mirrored", "noise", "palette", "reward", "sparse", "texture", "zoom"),
    }
)

_DESK = "camera=30+zoom=0.8+mirrored+palette=desk+texture=checks+extra+reward=0.1"
# By the paper's three kinds of pair.
VARIANTS = {
    # The same scene with other dynamics, as DeepMind Control's slopes and missing foot.
    "arm_downhill": "arm+gravity=3",
    "arm_nojoint": "arm+dead=1",
    "arm_uphill": "arm+gravity=-3",
    "push_downhill": "push+gravity=3",
    "push_nothruster": "push+dead=0",
    "push_uphill": "push+gravity=-3",
    "reach_downhill": "reach+gravity=3",
    "reach_nothruster": "reach+dead=0",
    "reach_uphill": "reach+gravity=-3",
    # Another task of the same scene, as Meta-World's.
    "arm_still": "arm+goal=still",
    "push_body": "push+goal=body",
    "push_middle": "push+goal=middle",
    # Another look, camera, action size and scale of reward, as Meta-World to RoboDesk.
    "arm_desk": f"arm+{_DESK}",
    "push_desk": f"push+{_DESK}",
    "reach_desk": f"reach+{_DESK}",
}


class Dials(NamedTuple):
    """Options of the scene itself; the module's docstring has their meaning."""

    camera: float = 0.0
    zoom: float = 1.0
    mirrored: bool = False
    palette: str = "day"
    texture: str = "plain"
    background: bool = False
    gravity: float = 0.0
    damping: float = 1.0
    gain: float = 1.0
    dead: int | None = None
    goal: str = ""
    anywhere: bool = False
    extra: bool = False


def tasks() -> tuple[str, ...]:
    """Names of the suite's tasks: the scenes, then the variants."""
    return (*_LIMBS, *VARIANTS)


def check(task: TaskName) -> None:
    """Make sure that the options of ``task`` can be met together.

    Raises:
        ValueError: one of them cannot.
    """
    scene, options = resolve(task)
    choices = {"palette": PALETTES, "texture": TEXTURES, "goal": _GOALS[scene]}
    for option, names in choices.items():
        if option in options and options[option] not in names:
            raise ValueError(
                f"planar/{scene} has no {option} {options[option]!r}; known: {', '.join(names)}."
            )
    if options.get("background"):
        raise ValueError(
            f"planar/{scene} has one moving background, without files: write +background, not "
            f"+background={options['background']}."
        )
    if "background" in options and task.chosen("texture") is not None:
        raise ValueError(
            f"planar/{scene}: +background covers the ground, so that +texture would not be seen: "
            "leave one of them out."
        )
    limbs = action_size(scene, options)
    if "dead" in options and int(options["dead"]) >= limbs:
        raise ValueError(
            f"planar/{scene} has {limbs} limbs, counted from 0: there is no limb "
            f"{options['dead']} that could be dead."
        )


def resolve(task: TaskName) -> tuple[str, dict[str, str]]:
    """The scene of a task of this suite, and all its options, a variant's among them."""
    if task.name not in VARIANTS:
        return task.name, dict(task.options)
    variant = parse_task(f"planar/{VARIANTS[task.name]}")
    return variant.name, dict(variant.options) | dict(task.options)


def action_size(scene: str, options: Mapping[str, str]) -> int:
    """Limbs of a scene: coordinates of an action."""
    return _LIMBS[scene] + ("extra" in options)


def dials(options: Mapping[str, str]) -> Dials:
    """The options of a task that the scene itself reads."""
    read: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(("camera", "zoom", "gravity", "damping", "gain"), float),
        **dict.fromkeys(("palette", "texture", "goal"), str),
        **dict.fromkeys(("mirrored", "background", "anywhere", "extra"), lambda switch: True),
        "dead": int,
    }
    return Dials(**{name: read[name](value) for name, value in options.items() if name in read})


@functools.lru_cache(maxsize=64)  # the same request gives the same object, and compiles once
def make(request: Request) -> JittableEnvironment:
    """Build the task of ``request``, which `suites.check_request` has passed."""
    from coworld_jax.envs.jittable import arm, options, push, reach

    scene, chosen = resolve(parse_task(request.task))
    build = {"arm": arm.make, "push": push.make, "reach": reach.make}[scene]
    spec = jittable_spec(
        request._replace(profile=_PROFILE),
        action_size=action_size(scene, chosen),
        simulator_steps=_SIMULATOR_STEPS,
        package="jax",
    )
    return options.apply(build(dials(chosen), spec), chosen)
