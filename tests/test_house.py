"""The laws of the house that a machine can check: floors, names, docstrings, pins, README."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from coworld_jax import config as configuration

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "coworld_jax"
PUBLISHED = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])
PAGES = ("README.md", "BUILD.md")

# A floor imports its own rooms and those below; every room that is not named here is on the top.
TOP = 6
FLOORS = {
    "types": 0,
    "distributions": 1,
    "returns": 1,
    "scaling": 1,
    "losses": 2,
    "networks": 3,
    "store": 4,
    "world_model": 4,
    "behavior": 4,
    "config": 5,
    "acting": 5,
    "agent": 5,
    "coworld": 5,
    "parallel": 5,
    "phases": 5,
}
# What a floor takes from outside, the language's own pure modules apart.
PURE = {"jax", "numpy", "chex"}
LANGUAGE = {
    "__future__",
    "ast",
    "collections",
    "typing",
    "dataclasses",
    "functools",
    "math",
    "difflib",
}
BELOW_THE_TOP = {3: PURE | {"flax"}, 4: PURE | {"flax"}, 5: PURE | {"flax", "optax"}}
DEVICE_NAMES = {"pmap", "sharding", "shard_map", "make_mesh"}


def room(path: Path) -> str:
    """First part of a module's name inside the package: ``losses`` for ``losses/couplings.py``."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything that is imported, ``from a import b`` as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute in this house"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def broken_laws(room: str, source: str) -> list[str]:
    """What is wrong with the imports and device names of a module of ``coworld_jax/<room>``."""
    tree, faults = ast.parse(source), []
    floor = FLOORS[room] if room in FLOORS else TOP
    outside = (PURE if floor <= 2 else BELOW_THE_TOP[floor]) if floor < TOP else None
    for name in imports(tree):
        package, _, rest = name.partition(".")
        if package == "coworld_jax":
            other = rest.split(".")[0]
            if (FLOORS[other] if other in FLOORS else TOP) > floor:
                faults.append(f"imports {name} from a floor above")
        elif outside is not None and package not in outside | LANGUAGE:
            faults.append(f"imports {name}, which belongs above floor {floor}")
        if name.startswith("flax.linen") and room != "networks":
            faults.append("imports flax.linen outside networks")
        if name.startswith(("absl.flags", "absl.app")):
            faults.append("reads flags outside experiments")
        if room != "parallel" and name in {f"jax.{device}" for device in DEVICE_NAMES}:
            faults.append(f"imports {name} outside parallel")
        if room != "parallel" and name.startswith("jax.sharding"):
            faults.append("knows shardings outside parallel")
    for node in ast.walk(tree):
        if (
            room != "parallel"
            and isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) in {("jax", device) for device in DEVICE_NAMES}
        ):
            faults.append(f"uses jax.{node.attr} outside parallel")
    return faults


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_each_floor_imports_only_downward(path: Path) -> None:
    assert broken_laws(room(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("losses", "import optax"),
        ("losses", "import os"),
        ("losses", "from coworld_jax.config import Config"),
        ("losses", "from coworld_jax import networks"),
        ("networks", "from coworld_jax import world_model"),
        ("world_model", "import flax.linen as nn"),
        ("world_model", "from flax import linen"),
        ("agent", "import time"),
        ("coworld", "import logging"),
        ("coworld", "import jax\njax.pmap(f)"),
        ("loop", "from jax.sharding import Mesh"),
        ("loop", "from jax import sharding"),
        ("loop", "from absl import flags"),
    ],
)
def test_a_broken_law_is_noticed(room: str, source: str) -> None:
    assert broken_laws(room, source)


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
    tree = ast.parse(path.read_text(encoding="utf-8"))
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
    assert defaults == [], ".get(key, default) hides a missing key, on these lines"


def test_every_config_field_is_read() -> None:
    """A field counts as read where it is taken from something named as its section is."""
    read = set()
    for path in PUBLISHED:
        if path == PACKAGE / "config.py" or "configs" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                if isinstance(owner, ast.Attribute):
                    read.add((owner.attr, node.attr))
                elif isinstance(owner, ast.Name):
                    read.add((owner.id, node.attr))
    unread = []
    for path in configuration.flatten(configuration.Config()):
        section, _, name = path.rpartition(".")
        if (section or "config", name) not in read:
            unread.append(path)
    assert unread == []


def test_config_sections_are_frozen() -> None:
    config = configuration.Config()
    for field in dataclasses.fields(config):
        section = getattr(config, field.name)
        if dataclasses.is_dataclass(section):
            name = dataclasses.fields(section)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(section, name, None)


# --- what the pages say ---------------------------------------------------------------------------


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of a page in one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[str]:
    """The lines of a page's shell blocks, continued lines joined, comments left out."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command:
                yield command


def defined_flags(module: Path) -> set[str]:
    """Flags of an entry point: ``DEFINE_x("name")``, and every dotted field of the config."""
    text = module.read_text(encoding="utf-8")
    flags = set(re.findall(r"""DEFINE_\w+\(\s*["'](\w+)["']""", text))
    if "config" in flags:
        flags |= {f"config.{path}" for path in configuration.flatten(configuration.Config())}
    return flags


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_pages_exist(page: str) -> None:
    wrong, seen = [], 0
    for command in commands(page):
        for script in re.findall(r"\bbash ([\w./]+)", command):
            seen += 1
            if not (ROOT / script).is_file():
                wrong.append(f"{script} is not there: {command}")
        for name, arguments in re.findall(r"-m (experiments\.\w+)(.*)", command):
            seen += 1
            module = ROOT / f"{name.replace('.', '/')}.py"
            if not module.is_file():
                wrong.append(f"{module.name} is not there: {command}")
                continue
            unknown = set(re.findall(r"--([\w.]+)", arguments)) - defined_flags(module)
            if unknown:
                wrong.append(f"{name} has no flags {sorted(unknown)}")
    assert seen and wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_links_on_the_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_python_on_the_readme_imports() -> None:
    snippets = blocks("README.md", "python")
    assert len(snippets) >= 2
    for snippet in snippets:
        for name in imports(ast.parse(snippet)):
            module, _, member = name.rpartition(".")
            if module.startswith("coworld_jax"):
                assert hasattr(importlib.import_module(module), member) or (
                    importlib.util.find_spec(name)
                ), f"the README imports {name}"


# --- what is installed ----------------------------------------------------------------------------


def pins(python: str) -> dict[str, str]:
    """Package to pinned version, for one version of Python."""
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(
                {"python_version": python}
            ):
                assert requirement.name not in pinned, f"{requirement.name} is pinned twice"
                pinned[requirement.name] = str(requirement.specifier).removeprefix("==")
    return pinned


def requirements() -> list[Requirement]:
    """Everything that setup.py asks for by name."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    call = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "setup"
    )
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    asked = list(ast.literal_eval(arguments["install_requires"]))
    for extra in ast.literal_eval(arguments["extras_require"]).values():
        asked += extra
    return [Requirement(line) for line in asked]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_every_requirement_is_pinned_inside_its_range(python: str) -> None:
    pinned = pins(python)
    for requirement in requirements():
        name = requirement.name.lower().replace("_", "-")
        assert name in pinned, f"constraints.txt does not pin {name} for Python {python}"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes its pin"


def test_every_requirement_has_its_reason_in_build_md() -> None:
    text = (ROOT / "BUILD.md").read_text(encoding="utf-8").lower()
    silent = [r.name for r in requirements() if f"`{r.name.lower()}`" not in text]
    assert silent == []


def test_every_third_party_import_is_asked_for() -> None:
    """Also the other way round: what is imported is installed by a name of setup.py."""
    names = {"absl": "absl-py", "PIL": "pillow", "orbax": "orbax-checkpoint"}
    # An example whose package sets itself apart from ours says how to install it.
    asked = {requirement.name for requirement in requirements()} | {"gymnax"}
    missing = set()
    for path in PUBLISHED:
        for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
            package = name.split(".")[0]
            if package in sys.stdlib_module_names or package in ("coworld_jax", "experiments"):
                continue
            if (names[package] if package in names else package) not in asked:
                missing.add(f"{path.relative_to(ROOT)}: {package}")
    assert missing == set()


@pytest.mark.parametrize(
    "script",
    [*ROOT.glob("launch/*.sh"), ROOT / "tests/run.sh", ROOT / ".ci/run"],
    ids=lambda p: p.name,
)
def test_scripts_parse_and_stop_at_the_first_failure(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")
