"""``--config.*`` on a command line, as ml_collections takes it and as the typed `Config`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from coworld_jax import config as configuration
from coworld_jax.workdir import config_from_flat, default_config, is_method, method_names
from experiments.command import as_path

_PREFIX = "config."
# Not the flag's own default: ml_collections would resolve that before a bad override is refused.
_DEFAULT = "experiments/configs/dmc.py:small"
_REPOSITORY = Path(__file__).resolve().parent.parent
HELP = (
    "FILE:STRING, where STRING is PAIR,SIZE,METHOD or some of the three, see "
    "experiments/configs/pairs.py; experiments/configs/dmc.py:small if not given."
)


def normalise(arguments: Sequence[str], method: str = "") -> list[str]:
    """``--config.*`` overrides in the form that ml_collections' parsers take.

    ``1e6`` becomes ``1000000`` where an integer is meant, and ``a,b`` becomes a tuple where a tuple
    is. ``--config.method=NAME`` becomes a part of ``--config``, for it decides which flags there
    are. The default configuration comes in where none is named. Everything else stays as it is.

    Args:
        arguments: of a process, its name first.
        method: of a command that knows only one; the user's, or the default one, if empty.

    Raises:
        ValueError: no such file, an unknown method or key (with the closest known one), or a value
            of the wrong type.
    """
    name, *rest = arguments
    rest, config, asked = _take_config(rest)
    config = _found(config)
    in_string = [part for part in config.partition(":")[2].split(",") if is_method(part)]
    chosen = method or asked or (in_string[0] if in_string else method_names()[0])
    known = configuration.flatten(default_config(chosen))
    if (method or asked) and not in_string:
        file, _, text = config.partition(":")
        config = f"{file}:{text},{chosen}" if text else f"{file}:{chosen}"
    elif in_string and in_string[0] != chosen:
        raise ValueError(f"--config names the method {in_string[0]}, but {chosen} is wanted.")
    rewritten = [name, f"--config={config}"]
    while rest:
        argument = rest.pop(0)
        flag, equals, text = argument.lstrip("-").partition("=")
        path = flag.removeprefix("no") if flag.startswith(f"no{_PREFIX}") else flag
        if not argument.startswith("-") or not path.startswith(_PREFIX):
            rewritten.append(argument)
            continue
        path = path.removeprefix(_PREFIX)
        if path not in known:
            raise ValueError(f"Unknown flag --{flag}{_advice(path, chosen, known)}")
        default = known[path]
        if isinstance(default, bool) and not equals:
            rewritten.append(argument)
            continue
        if not equals:
            if not rest:
                raise ValueError(f"--{flag} needs a value, for example --{flag}={default}.")
            text = rest.pop(0)
        rewritten.append(f"--{flag}={_spell(flag, text, default)}")
    return rewritten


def _take_config(arguments: list[str]) -> tuple[list[str], str, str]:
    """The other arguments, the value of ``--config``, and that of ``--config.method``."""
    values = {"config": _DEFAULT, f"{_PREFIX}method": ""}
    others = []
    while arguments:
        argument = arguments.pop(0)
        flag, equals, text = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or flag not in values:
            others.append(argument)
            continue
        if not equals and not arguments:
            raise ValueError(f"--{flag} needs a value.")
        values[flag] = text if equals else arguments.pop(0)
    return others, values["config"], values[f"{_PREFIX}method"]


def _found(config: str) -> str:
    """``--config`` with its file as the user means it: here, or else in this repository.

    ml_collections notices a missing file late, and with any ``--config.x=`` by a traceback.

    Raises:
        ValueError: there is no such file.
    """
    text, colon, rest = config.partition(":")
    named = as_path(text)
    file = named if named.is_file() else _REPOSITORY / named
    if not file.is_file():
        raise ValueError(
            f"--config: there is no file {str(named)!r}; experiments/configs/ has a file for each "
            "suite."
        )
    return f"{file}{colon}{rest}"


def _advice(path: str, method: str, known: dict[str, Any]) -> str:
    """Which methods have a flag that ``method`` has not, or else the flag with the nearest name."""
    owners = [
        name for name in method_names() if path in configuration.flatten(default_config(name))
    ]
    if owners:
        return (
            f" of method {method}; it belongs to {', '.join(owners)}: use "
            f"--{_PREFIX}method={owners[0]}, or leave the flag out."
        )
    return f": {configuration.closest(path, known, f'--{_PREFIX}')}"


def _spell(flag: str, text: str, default: Any) -> str:
    if isinstance(default, tuple):
        if text.startswith("("):
            return text
        return repr(configuration.parts(text))
    if isinstance(default, int) and not isinstance(default, bool):
        try:
            number = ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"--{flag} is {text!r}, but an integer is needed there.") from error
        if not isinstance(number, int | float) or number % 1 != 0:
            raise ValueError(f"--{flag} is {text!r}, but an integer is needed there.")
        return str(int(number))
    return str(as_path(text)) if text.startswith("~") else text


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """What is left of the command line after its flags; a bad flag ends the program."""
    try:
        return read_flags(arguments)
    except ValueError as error:
        sys.exit(str(error))


def read_flags(arguments: Sequence[str]) -> list[str]:
    """What is left of the command line after its flags.

    An error in a configuration file, such as an unknown pair, reaches absl as the text of a
    traceback; what the user can act on is the error at its bottom.

    Raises:
        ValueError: a bad flag.
    """
    try:
        return list(flags.FLAGS(arguments))
    except flags.Error as error:
        cause: BaseException = error
        while "Traceback" in str(cause) and cause.__context__ is not None:
            cause = cause.__context__
        raise ValueError(str(cause)) from error


def resolve(values: ConfigDict) -> configuration.Config:
    """The typed configuration of what the config file and the flags say.

    Raises:
        ValueError: a value is out of place.
    """
    return config_from_flat(_flatten(values.to_dict(), ""))


def _flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
