"""The laws of the house that a machine can check: floors, sizes, names, docstrings, settings."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_files import PACKAGE, PUBLISHED, ROOT, imports, parsed

from coworld_jax import config as configuration
from coworld_jax.methods import METHODS
from coworld_jax.workdir import default_config

# From the ground up; a room is a module or a folder, and imports its own floor and those below.
STORIES = (
    {"types"},
    {"distributions", "returns", "augment"},
    {"losses"},
    {"networks"},
    {"fields", "store", "method", "policy", "hosts", "parallel", "agents", "torch_file"},
    {"config", "schedule", "methods"},
    {"data", "envs"},
    {"records"},
    {"workdir"},
    {"evaluation"},
    {"training"},
)
FLOORS = {room: floor for floor, rooms in enumerate(STORIES) for room in rooms}
FIRST_WITH_FILES = FLOORS["data"]  # from here on modules know files, processes and clocks
# What the floors below take from outside, the language's own pure modules apart.
PURE = {"jax", "numpy", "chex"}
OUTSIDE = {0: PURE, 1: PURE, 2: PURE, 3: PURE | {"flax"}}
LEARNING = PURE | {"flax", "optax"}
# Modules below ``data`` that know more of the world: weights that a method starts from are a file,
# hosts exchange texts, and policies act on a device that is made for them, in several threads.
WORLDLY = {
    "torch_file": {"io", "pathlib", "pickle", "zipfile", "zlib"},
    "hosts": {"json", "signal", "contextlib"},
    "parallel": {"jaxlib", "threading"},
}
LANGUAGE = {
    "importlib",
    "types",
    "__future__",
    "ast",
    "collections",
    "typing",
    "dataclasses",
    "functools",
    "math",
    "difflib",
}
DEVICE_NAMES = {"pmap", "sharding", "shard_map", "make_mesh"}
HOST_NAMES = {"distributed", "process_count", "process_index"}
OWN_NAMES = {"parallel": DEVICE_NAMES, "hosts": HOST_NAMES}  # of jax, by the only room for them
# Outside methods/, the modules that may import the table of methods.
DOORS_TO_METHODS = {"workdir.py"}


def room(path: Path) -> str:
    """First part of a module's name inside the package: ``losses`` for ``losses/couplings.py``."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


PARTS = "parts"  # what several methods share


def broken_laws(module: str, source: str) -> list[str]:
    """What is wrong with the imports and device names of ``coworld_jax/<module>``."""
    tree, faults = ast.parse(source), []
    here = Path(module).with_suffix("").parts
    room, floor = here[0], FLOORS[here[0]]
    for name in imports(tree):
        package, _, rest = name.partition(".")
        if package == "coworld_jax":
            other, *inside = rest.split(".")
            if FLOORS[other] > floor:
                faults.append(f"imports {name} from a floor above")
            if other == "methods" and room != "methods" and module not in DOORS_TO_METHODS:
                faults.append(f"imports {name}: only {DOORS_TO_METHODS} know methods")
            own = [here[1], PARTS] if room == "methods" else []
            if other == room == "methods" and here[1] != "__init__" and inside[0] not in own:
                faults.append(f"imports {name}, another method")
        elif floor < FIRST_WITH_FILES:
            allowed = OUTSIDE[floor] if floor in OUTSIDE else LEARNING
            allowed = allowed | WORLDLY[room] if room in WORLDLY else allowed
            if package not in allowed | LANGUAGE:
                faults.append(f"imports {name}, which belongs above floor {floor}")
        elif room == "envs" and here[1] != "jittable" and package in LEARNING - {"numpy"}:
            faults.append(f"imports {name}, which a simulator's process must not load")
        if name.startswith("flax.linen") and room != "networks":
            faults.append("imports flax.linen outside networks")
        if name.startswith(("absl.flags", "absl.app")):
            faults.append("reads flags outside experiments")
        if room != "parallel" and name in {f"jax.{device}" for device in DEVICE_NAMES}:
            faults.append(f"imports {name} outside parallel")
        if room != "parallel" and name.startswith("jax.sharding"):
            faults.append("knows shardings outside parallel")
        if room not in ("hosts", "parallel") and name.startswith("jax.experimental.multihost"):
            faults.append(f"imports {name}: only hosts and parallel know processes")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "jax":
            faults += [
                f"uses jax.{node.attr} outside {owner}"
                for owner, names in OWN_NAMES.items()
                if room != owner and node.attr in names
            ]
        if room != "methods" and isinstance(node, ast.Constant) and node.value in METHODS:
            faults.append(f"names the method {node.value!r}")
    return faults


def modules() -> list[Path]:
    """Every module of a room; the package's own ``__init__`` is in none."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_floor_imports_only_downward(path: Path) -> None:
    module = path.relative_to(PACKAGE).as_posix()
    assert broken_laws(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("losses/couplings.py", "import optax"),
        ("losses/couplings.py", "import os"),
        ("losses/couplings.py", "from coworld_jax.config import Config"),
        ("losses/couplings.py", "from coworld_jax import networks"),
        ("returns.py", "import flax"),
        ("networks/heads.py", "from coworld_jax.agents.dreamer import world_model"),
        ("networks/heads.py", "import optax"),
        ("agents/dreamer/world_model.py", "import flax.linen as nn"),
        ("agents/dreamer/world_model.py", "from flax import linen"),
        ("agents/dreamer/agent.py", "import time"),
        ("agents/dreamer/agent.py", "from coworld_jax.methods import METHODS"),
        ("agents/dreamer/agent.py", "from coworld_jax.config import Config"),
        ("methods/dreamer.py", "import logging"),
        ("methods/dreamer.py", "from coworld_jax.methods.coworld import CoWorldSettings"),
        ("methods/coworld/plan.py", "from coworld_jax.methods import METHODS"),
        ("methods/coworld/plan.py", "from coworld_jax.methods import dreamer"),
        ("methods/coworld/plan.py", "from coworld_jax.records import files"),
        ("methods/coworld/plan.py", "import jax\njax.pmap(f)"),
        ("envs/pool.py", "import jax"),
        ("envs/pool.py", "from coworld_jax.records import files"),
        ("data/replay.py", "from coworld_jax.workdir import load_policy"),
        ("records/files.py", "from coworld_jax.methods import METHODS"),
        ("records/files.py", "from coworld_jax import workdir"),
        ("workdir.py", "from coworld_jax.evaluation import scores"),
        ("evaluation/scores.py", "from coworld_jax.training import loop"),
        ("evaluation/scores.py", "from coworld_jax.methods.coworld import state"),
        ("training/loop.py", "from coworld_jax.methods import METHODS"),
        ("training/loop.py", "from jax.sharding import Mesh"),
        ("training/loop.py", "from jax import sharding"),
        ("training/loop.py", "from jax.experimental import multihost_utils"),
        ("training/loop.py", "import jax\njax.process_count()"),
        ("parallel/meshes.py", "import jax\njax.distributed.initialize()"),
        ("training/loop.py", "from absl import flags"),
        ("training/loop.py", "if method == 'coworld': pass"),
    ],
)
def test_a_broken_law_is_noticed(module: str, source: str) -> None:
    assert broken_laws(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("methods/coworld/plan.py", "from coworld_jax.methods.coworld.settings import X"),
        ("methods/__init__.py", "from coworld_jax.methods.dreamer import DreamerSettings"),
        ("workdir.py", "from coworld_jax.methods import METHODS"),
        ("agents/dreamer/agent.py", "import flax.struct"),
        ("training/loop.py", "import os, time"),
    ],
)
def test_a_kept_law_is_left_alone(module: str, source: str) -> None:
    assert broken_laws(module, source) == []


def test_rooms_form_no_circle() -> None:
    """Rooms of one floor may import each other, but never in a circle."""
    needs: dict[str, set[str]] = {}
    for path in modules():
        others = {
            name.split(".")[1] for name in imports(parsed(path)) if name.startswith("coworld_jax.")
        }
        needs.setdefault(room(path), set()).update(others - {room(path)})
    list(graphlib.TopologicalSorter(needs).static_order())  # raises a CycleError
    assert set(needs) <= set(FLOORS), "a room has no floor yet"


# --- sizes ----------------------------------------------------------------------------------------

LINES = {ast.FunctionDef: 60, ast.AsyncFunctionDef: 60, ast.ClassDef: 150}
MOST_LINES, MOST_ARGUMENTS = 400, 8


def lines_of(node: ast.AST, lines: int) -> int:
    """``lines`` without the docstrings of the functions and classes in ``node``."""
    for inner in ast.walk(node):
        if isinstance(inner, tuple(LINES)) and ast.get_docstring(inner) is not None:
            text = inner.body[0]
            lines -= text.end_lineno - text.lineno + 1
    return lines


def too_large(source: str) -> list[str]:
    """The functions, classes and signatures of a file that are too large, or the file itself."""
    tree, faults = ast.parse(source), []
    length = lines_of(tree, len(source.splitlines()))
    if length > MOST_LINES:
        faults.append(f"the file has {length} lines, not {MOST_LINES} at most")
    for node in ast.walk(tree):
        for kind, most in LINES.items():
            if isinstance(node, kind):
                length = lines_of(node, node.end_lineno - node.lineno + 1)
                if length > most:
                    faults.append(f"{node.name} has {length} lines, not {most} at most")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            arguments += [rest for rest in (given.vararg, given.kwarg) if rest is not None]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if count > MOST_ARGUMENTS:
                faults.append(f"{node.name} has {count} arguments, not {MOST_ARGUMENTS} at most")
    return faults


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_too_large_to_read(path: Path) -> None:
    assert too_large(path.read_text(encoding="utf-8")) == []


def test_what_is_too_large_is_noticed() -> None:
    def body(lines: int, indent: str = "    ") -> str:
        return "".join(f"{indent}x = {i}\n" for i in range(lines))

    text = '    """One.\n\n    Two.\n    """\n'
    assert too_large("def f():\n" + text + body(59)) == []
    assert too_large("def f():\n" + text + body(60)) == ["f has 61 lines, not 60 at most"]
    assert too_large("class C:\n" + body(150)) == ["C has 151 lines, not 150 at most"]
    assert too_large(body(401, "")) == ["the file has 401 lines, not 400 at most"]
    assert too_large("def f(self, a, b, c, d, e, g, *, h, i): ...") == []
    assert too_large("def f(a, b, c, d, e, g, *, h, i, j): ...") == [
        "f has 9 arguments, not 8 at most"
    ]


def test_lowest_floors_come_without_the_rest() -> None:
    """Another project can import the losses: no flax, no optax, no simulator comes with them."""
    program = (
        "import sys, coworld_jax.losses, coworld_jax.returns, coworld_jax.distributions\n"
        "print([m for m in ('flax', 'optax', 'mujoco', 'orbax', 'absl.flags') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # chex brings absl's flags along; that is its own affair
    assert done.stdout.strip() in ("[]", "['absl.flags']")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: str(p.relative_to(ROOT)))
def test_docstrings_and_idioms(path: Path) -> None:
    tree = parsed(path)
    assert path.name not in ("utils.py", "util.py", "helpers.py")
    assert ast.get_docstring(tree) or path.stat().st_size == 0, "the module has no docstring"
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert bare == [], "public, without a docstring"
    defaults = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and len(node.args) == 2
        and ast.unparse(node.func.value) != "os.environ"  # an unset variable is no mistake
    ]
    defaults += [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BoolOp)
        and isinstance(node.op, ast.Or)
        and ".get(" in ast.unparse(node.values[0])
        and "os.environ" not in ast.unparse(node.values[0])
    ]
    assert defaults == [], ".get with a default hides a missing key, on these lines"


# A section is called as it is in the configuration, or so; "" are the fields of no section.
SECTION_NAMES = {"": {"config", "settings"}, "schedule": {"schedule", "online"}}


@pytest.mark.parametrize("method", METHODS)
def test_every_config_field_is_read(method: str) -> None:
    """A field counts as read where it is taken from something named as its section is."""
    read = set()
    for path in PUBLISHED:
        if path == PACKAGE / "config.py" or "configs" in path.parts:
            continue
        own = {method, "parts"} & {*path.parts, path.stem}
        if path.is_relative_to(PACKAGE / "methods") and not own:
            continue  # another method's
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                if isinstance(owner, ast.Attribute):
                    read.add((owner.attr.lstrip("_"), node.attr))
                elif isinstance(owner, ast.Name):
                    read.add((owner.id, node.attr))
    unread = []
    for path in configuration.flatten(default_config(method)):
        *_, section, name = ("", *path.split("."))
        names = SECTION_NAMES[section] if section in SECTION_NAMES else {section}
        if not any((owner, name) in read for owner in names):
            unread.append(path)
    assert unread == []


def sections(settings: object) -> Iterator[object]:
    """A settings dataclass and all dataclasses in it."""
    yield settings
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from sections(value)


@pytest.mark.parametrize("method", METHODS)
def test_config_sections_are_frozen(method: str) -> None:
    for section in sections(default_config(method)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, dataclasses.fields(section)[0].name, None)
