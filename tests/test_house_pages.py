"""What README, BUILD.md, setup.py and the scripts say, checked against the code."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from source_files import PUBLISHED, ROOT, imports, parsed

from coworld_jax import config as configuration
from coworld_jax.methods import METHODS
from coworld_jax.workdir import default_config

PAGES = ("README.md", "BUILD.md")


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
        for method in METHODS:
            flags |= {f"config.{path}" for path in configuration.flatten(default_config(method))}
    return flags


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_pages_exist(page: str) -> None:
    wrong, seen = [], 0
    for command in commands(page):
        for script in re.findall(r"\bbash ([\w./]+)", command):
            seen += 1
            if not (ROOT / script).is_file():
                wrong.append(f"{script} is not there: {command}")
        for name, arguments in re.findall(r"-m (experiments(?:\.\w+)+)(.*)", command):
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
    arguments: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", arguments.update)
        patch.chdir(ROOT)
        runpy.run_path("setup.py")
    extras = arguments["extras_require"].values()
    return [
        Requirement(line) for lines in (arguments["install_requires"], *extras) for line in lines
    ]


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
    names["jaxlib"] = "jax"  # which installs the jaxlib of its own version
    # An example whose package sets itself apart from ours says how to install it.
    asked = {requirement.name for requirement in requirements()} | {"gymnax"}
    missing = set()
    for path in PUBLISHED:
        for name in imports(parsed(path)):
            package = name.split(".")[0]
            if package in sys.stdlib_module_names or package in ("coworld_jax", "experiments"):
                continue
            if (names[package] if package in names else package) not in asked:
                missing.add(f"{path.relative_to(ROOT)}: {package}")
    assert missing == set()


@pytest.mark.parametrize(
    "script",
    [
        *ROOT.glob("launch/*.sh"),
        *ROOT.glob("launch/*.sbatch"),
        ROOT / "tests/run.sh",
        ROOT / ".ci/run",
    ],
    ids=lambda p: p.name,
)
def test_scripts_parse_and_stop_at_the_first_failure(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")
