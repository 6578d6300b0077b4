"""Which versions of the simulators' packages are known to work, and who is to blame if not.

A simulator that meets a foreign version of MuJoCo fails deep inside (``flex_vertedge``,
``eq_data``), at import or at the first model. The sentence here names the package instead.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent

# The same pins as in constraints.txt: tried together, with episodes collected.
TESTED = {
    "mujoco": "3.3.0",
    "dm_control": "1.0.28",
    "metaworld": "3.1.1",
    "robodesk": "1.0.0",
    "gymnasium": "1.4.0",
}


class VersionError(RuntimeError):
    """A package that a simulator needs is missing, or has a version that does not work."""


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of installed ``packages``.

    Raises:
        VersionError: one of them is not installed.
    """
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise VersionError(
                f"{package} is not installed: pip install {_requirements(packages)}"
            ) from error
    return versions


@contextlib.contextmanager
def explained(packages: Sequence[str]) -> Iterator[None]:
    """Wrap the import and the construction of a simulator built on ``packages``.

    Raises:
        VersionError: the block failed, and a package is missing or has another version than the
            tested one. A failure with the tested versions passes unchanged, and so does a
            ValueError of this package, which says itself what is wrong.
    """
    versions = installed_versions(packages)
    try:
        yield
    except Exception as error:
        foreign = [name for name in packages if versions[name] != TESTED[name]]
        if not foreign or (isinstance(error, ValueError) and raised_here(error)):
            raise
        offenders = " and ".join(
            f"{name} {versions[name]} (tested: {TESTED[name]})" for name in foreign
        )
        raise VersionError(
            f"The simulator does not work with {offenders}, {type(error).__name__}: {error}. "
            f"pip install {_requirements(packages)}"
        ) from error


def raised_here(error: BaseException) -> bool:
    """Whether a line of this package raised ``error``."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(_PACKAGE)


def _requirements(packages: Sequence[str]) -> str:
    return " ".join(f"{name}=={TESTED[name]}" for name in packages)
