"""``--config.*`` on a command line, as ml_collections takes it and as the typed `Config`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from coworld_jax import config as configuration

_PREFIX = "config."
# Not the flag's own default: ml_collections would resolve that before a bad override is refused.
_DEFAULT = "--config=experiments/configs/dmc.py:small"
HELP = (
    "FILE:STRING, where STRING is PAIR, PAIR,SIZE or SIZE, see experiments/configs/pairs.py; "
    "experiments/configs/dmc.py:small if not given."
)


def normalise(arguments: Sequence[str]) -> list[str]:
    """``--config.*`` overrides in the form that ml_collections' parsers take.

    ``1e6`` becomes ``1000000`` where an integer is meant, and ``a,b`` becomes a tuple where a tuple
    is; everything else stays as it is. The default configuration comes in where none is named.

    Args:
        arguments: of a process, its name first.

    Raises:
        ValueError: an unknown key (with the closest known one), or a value of the wrong type.
    """
    known = configuration.flatten(configuration.Config())
    name, *rest = arguments
    named = any(argument.lstrip("-").partition("=")[0] == "config" for argument in rest)
    rewritten = [name] if named else [name, _DEFAULT]
    while rest:
        argument = rest.pop(0)
        flag, equals, text = argument.lstrip("-").partition("=")
        path = flag.removeprefix("no") if flag.startswith(f"no{_PREFIX}") else flag
        if not argument.startswith("-") or not path.startswith(_PREFIX):
            rewritten.append(argument)
            continue
        path = path.removeprefix(_PREFIX)
        if path not in known:
            raise ValueError(f"Unknown flag --{flag}: {_suggestion(path, known)}")
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


def _suggestion(path: str, known: dict[str, Any]) -> str:
    return configuration.closest(path, known).replace("did you mean ", f"did you mean --{_PREFIX}")


def _spell(flag: str, text: str, default: Any) -> str:
    if isinstance(default, tuple):
        if text.startswith("("):
            return text
        return repr(tuple(part.strip() for part in text.split(",") if part.strip()))
    if isinstance(default, int) and not isinstance(default, bool):
        try:
            number = ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"--{flag} is {text!r}, but an integer is needed there.") from error
        if not isinstance(number, int | float) or number % 1 != 0:
            raise ValueError(f"--{flag} is {text!r}, but an integer is needed there.")
        return str(int(number))
    return text


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """What is left of the command line after its flags; a bad flag ends the program.

    An error in a configuration file, such as an unknown pair, reaches absl as the text of a
    traceback; what the user can act on is the error at its bottom.
    """
    try:
        return list(flags.FLAGS(arguments))
    except flags.Error as error:
        cause: BaseException = error
        while "Traceback" in str(cause) and cause.__context__ is not None:
            cause = cause.__context__
        sys.exit(str(cause))


def resolve(values: ConfigDict) -> configuration.Config:
    """The typed configuration of what the config file and the flags say.

    Raises:
        ValueError: there is no such config file, or a value is out of place.
    """
    try:
        tree = values.to_dict()
    except OSError as error:  # ml_collections keeps it until the values are asked for
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"--config: {reason}; experiments/configs/ has a file for each suite."
        ) from error
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in value.items()}
        else:
            flat[name] = value
    return configuration.from_flat(flat)
