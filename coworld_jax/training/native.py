"""Compiles the C++ convolutions and products for the machine that runs them, and gives them to XLA.

The compiler is ``$CXX``, or else ``c++``; an empty variable leaves all layers to XLA. The library
is kept under a name that changes with the source, with the compiler and with the processor.
Where nothing can be compiled, a warning says why, and training on a CPU takes longer; nothing else
depends on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

import jax

from coworld_jax.networks import direct

COMPILER_VARIABLE = "CXX"

_LOG = logging.getLogger(__name__)
_SOURCE = Path(direct.__file__).with_name("direct.cc")
_HEADERS = sorted(_SOURCE.parent.glob("*.h"))
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
_outcome: list[bool] = []  # whether convolutions run in C++; empty before the first call


def use_native_convolutions(folder: Path | None) -> bool:
    """Let programs that are traced from now on compute convolutions on a CPU by `direct`.

    Args:
        folder: where the library is kept; None compiles one for this process alone.

    Returns:
        True if they now run in C++; False if there is no compiler, or if none is wanted.
    """
    if not _outcome:
        _outcome.append(_register(folder))
    return _outcome[0]


def _register(folder: Path | None) -> bool:
    compiler = os.environ[COMPILER_VARIABLE] if COMPILER_VARIABLE in os.environ else "c++"
    if not compiler.strip():
        return False
    try:
        library = _library(compiler.split(), folder)
    except (OSError, subprocess.CalledProcessError) as error:
        _LOG.warning(
            "Training will take longer: %s gives no library from %s (%s). "
            "Install a C++ compiler, name one in %s, or leave that variable empty.",
            compiler,
            _SOURCE.name,
            _reason(error),
            COMPILER_VARIABLE,
        )
        return False
    functions = {name: jax.ffi.pycapsule(getattr(library, name)) for name in direct.FUNCTIONS}
    direct.register(functions, library.images_of_block())
    return True


def _library(compiler: list[str], folder: Path | None) -> ctypes.CDLL:
    """The library of this source, compiler and processor, compiled where none can be loaded.

    Raises:
        OSError: there is no such compiler, or what it has made cannot be loaded.
        CalledProcessError: it failed.
    """
    # The compiler's macros name its version and the instructions of the processor.
    macros = _run([*compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    sources = [path.read_text(encoding="utf-8") for path in (_SOURCE, *_HEADERS)]
    parts = (macros, metadata.version("jaxlib"), *compiler, *_FLAGS, *sources)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    name = f"{_SOURCE.stem}-{digest}.so"
    if folder is not None and (folder / name).exists():
        with contextlib.suppress(OSError):  # a damaged one is compiled again
            return ctypes.CDLL(str(folder / name))
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch) / name
        headers = f"-isystem{jax.ffi.include_dir()}"
        _run([*compiler, *_FLAGS, headers, str(_SOURCE), "-o", str(built)])
        kept = None if folder is None else _keep(built, folder)
        return ctypes.CDLL(str(kept or built))


def _keep(library: Path, folder: Path) -> Path | None:
    """Copy a library to a folder that other processes may write it to as well.

    Returns:
        The copy; None if the folder cannot be written to, so that each process compiles its own.
    """
    kept = folder / library.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            os.replace(shutil.copy(library, unfinished), kept)
    except OSError:
        return None
    return kept


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    """Why there is no library, in one line: the compiler's own if it has run."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        return lines[0] if lines else f"exit status {error.returncode}"
    return str(error)
