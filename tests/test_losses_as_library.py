"""The losses in other projects: alone on the path, and as their page lists them."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from coworld_jax import losses
from experiments.losses_page import PAGE, page, read

ROOT = Path(__file__).resolve().parent.parent


def closure(names: tuple[str, ...]) -> set[str]:
    """The distributions that these need, themselves included; no optional ones."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory):
    """A folder with links to jax, numpy, chex, optax and what these need, and to the package."""
    folder = tmp_path_factory.mktemp("bare")
    for name in closure(("jax", "jaxlib", "numpy", "chex", "optax")):
        for file in metadata.files(name) or ():
            top = folder / file.parts[0]
            if not top.exists() and file.parts[0] not in ("..", "__pycache__"):
                place = Path(file.locate())
                top.symlink_to([place, *place.parents][len(file.parts) - 1])
    (folder / "coworld_jax").symlink_to(ROOT / "coworld_jax")
    (folder / "own_agent.py").symlink_to(ROOT / "experiments/examples/own_agent.py")
    return folder


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """``program`` in an interpreter that sees this folder and its own library, nothing else."""
    paths = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", paths + program],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_bare_environment_has_no_flax(bare_path):
    done = run(bare_path, "import jax, chex, optax\nimport flax")
    assert done.returncode == 1 and "No module named 'flax'" in done.stderr


def test_an_outside_agent_learns_with_the_losses_alone(bare_path):
    program = (
        "import own_agent\n"
        "reward = own_agent.train(60)\n"
        "assert max(reward[:3]) < 0.0 and min(reward[-3:]) > 0.3, reward\n"
        "print('learnt')"
    )
    done = run(bare_path, program)
    assert done.stdout.strip() == "learnt", done.stderr[-2000:]


def test_the_page_of_the_losses_is_that_of_their_docstrings():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m experiments.losses_page"


@pytest.mark.parametrize("name", sorted(losses.__all__))
def test_a_docstring_gives_formula_arguments_gradient_and_source(name):
    entry = read(getattr(losses, name))
    assert "`" in entry.summary and entry.gradient and entry.reference


def test_a_docstring_without_its_gradient_is_refused():
    def loss(value):
        """``v``.

        Args:
            value: ``[T, B]``.

        Reference: none.
        """

    with pytest.raises(ValueError, match="Gradient"):
        read(loss)
