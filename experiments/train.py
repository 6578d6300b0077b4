"""Train CoWorld.

    python -m experiments.train --config=experiments/configs/dmc.py:small \\
        --config.source=dmc/walker_walk --config.target=dmc/walker_downhill \\
        --config.data=DIR --workdir=runs/x
    python -m experiments.train --config=experiments/configs/robodesk.py:push_green,small \\
        --config.data=DIR --workdir=runs/y

The second names a pair of the paper; the files in `experiments.configs` list them. Any field of
`coworld_jax.config.Config` is a flag, for example ``--config.learning.batch=32``. The same command
goes on with a run that was interrupted.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from coworld_jax import config as configuration
from coworld_jax import runtime
from coworld_jax.envs import GraphicsError, VersionError, WorkerFailed
from coworld_jax.finite import NonFiniteError
from coworld_jax.loop import train

_CONFIG = config_flags.DEFINE_config_file(
    "config", "experiments/configs/dmc.py:small", "Configuration file and what of it, FILE:STRING."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of this run; made when missing.", required=True
)
_PREFIX = "config."


def normalise(arguments: Sequence[str]) -> list[str]:
    """``--config.*`` overrides in the form that ml_collections' parsers take.

    ``1e6`` becomes ``1000000`` where an integer is meant, and ``a,b`` becomes a tuple where a tuple
    is; everything else stays as it is.

    Raises:
        ValueError: an unknown key (with the closest known one), or a value of the wrong type.
    """
    known = configuration.flatten(configuration.Config())
    rewritten, rest = [], list(arguments)
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


def resolve(values: ConfigDict) -> configuration.Config:
    """The typed configuration of what the config file and the flags say."""
    flat: dict[str, Any] = {}
    for name, value in values.to_dict().items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in value.items()}
        else:
            flat[name] = value
    return configuration.from_flat(flat)


def main(arguments: Sequence[str]) -> None:
    """Train with the configuration of the flags."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag: values are set by --config.<key>=...")
    logging.set_verbosity(logging.WARNING)  # Orbax narrates every save
    print(f"Compiled programs are kept in {runtime.configure() or 'memory only'}.", file=sys.stderr)
    try:
        summary = train(resolve(_CONFIG.value), _WORKDIR.value)
    except (
        ValueError,
        FileNotFoundError,
        ModuleNotFoundError,
        GraphicsError,
        NonFiniteError,
        VersionError,
        WorkerFailed,
    ) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    if summary is None:
        return
    print(f"\nFinished after {summary['updates']} updates and {summary['env_steps']} env_steps.")
    for domain, result in summary["evaluations"].items():
        print(f"{domain}: return {result['return_mean']:.1f} ± {result['return_std']:.1f}")
    print("Pictures:", *summary["pictures"], sep="\n  ")
    print(f"Summary: {_WORKDIR.value}/summary.json")


def parse(arguments: Sequence[str]) -> list[str]:
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


def run() -> None:
    """Parse the command line; a bad one gets one sentence."""
    runtime.restart_with_huge_pages()
    try:
        arguments = normalise(sys.argv)
    except ValueError as error:
        sys.exit(str(error))
    app.run(main, argv=arguments, flags_parser=parse)


if __name__ == "__main__":
    run()
