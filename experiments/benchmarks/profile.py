"""Where the time of an update goes, by the named parts of the code."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax

from coworld_jax.config import Config
from experiments.benchmarks.update import prepare

# An instruction of compiled HLO, its operation, and the path of scopes that it came from.
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = .*?[\]})] ([\w-]+)\(.*op_name=\"([^\"]*)\"")
_CONTAINERS = ("while", "conditional", "call")  # whose time is that of what they contain
_SCOPE = re.compile(r"^(?:transpose\()?(?:jvp\()?([A-Za-z_.]+?)\)*$")
_PLUMBING = {
    "shard_map",
    "while",
    "body",
    "cond",
    "closed_call",
    "eval_jaxpr",
    "run",
    "jvp",
    "transpose",
}


class Cost(NamedTuple):
    """One part of an update."""

    name: str  # scopes of the code, and whether it is the backward pass
    milliseconds: float  # per update, added up over threads or streams
    share: float  # of all parts


def measure(config: Config, phase: str) -> list[Cost]:
    """Trace one chunk of updates; the parts come largest first."""
    program = prepare(config, phase)
    instructions = {
        match[1]: (match[2], match[3])
        for match in map(_INSTRUCTION.match, program.hlo.splitlines())
        if match
    }
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            jax.block_until_ready(program.run_chunk())
        (file,) = Path(directory).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(file))
    nanoseconds: Counter[str] = Counter()
    for plane in trace.planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" not in stats:
                    continue
                operation, path = event.name.split(".")[0], ""
                if stats["hlo_op"] in instructions:
                    operation, path = instructions[stats["hlo_op"]]
                if operation not in _CONTAINERS:
                    nanoseconds[part(path) or f"elsewhere: {operation}"] += event.duration_ns
    total = sum(nanoseconds.values())
    return [
        Cost(name, spent / 1e6 / config.run.chunk, spent / total)
        for name, spent in nanoseconds.most_common()
    ]


def part(path: str) -> str:
    """The scopes of an ``op_name`` that a reader of the code knows.

    >>> part("jit(run)/while/body/closed_call/transpose(jvp(observe))/while/body/RSSM.recur/mul")
    'observe/RSSM.recur, backward'
    """
    *scopes, _ = path.split("/")
    known = [match[1] for match in map(_SCOPE.match, scopes) if match]
    names = [name for name in known if name not in _PLUMBING]
    backward = ", backward" if "transpose(" in path else ""
    return "/".join(dict.fromkeys(names)) + backward if names else ""
