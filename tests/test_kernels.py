"""Kernels of a program that was compiled for a GPU are counted by hand, and on a real program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.kernels import Loop, count_kernels, has_cuda_compiler

ROOT = Path(__file__).resolve().parent.parent

HLO = """HloModule jit_run

%inner (p.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.1 = (s32[], f32[4]{0}) parameter(0)
  %x.1 = f32[4]{0} get-tuple-element(%p.1), index=1
  %fusion.1 = f32[4]{0} fusion(%x.1), kind=kLoop, calls=%fused
  ROOT %tuple.1 = (s32[], f32[4]{0}) tuple(%x.1, %fusion.1)
}

%fused (p.2: f32[4]) -> f32[4] {
  %p.2 = f32[4]{0} parameter(0)
  ROOT %add.2 = f32[4]{0} add(%p.2, %p.2)
}

%outer (p.3: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.3 = (s32[], f32[4]{0}) parameter(0)
  %while.3 = (s32[], f32[4]{0}) while(%p.3), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %gemm.3 = (f32[4]{0}, s8[64]{0}) custom-call(%while.3), custom_call_target="__cublas$gemm"
  %call.3 = f32[4]{0} call(%gemm.3), to_apply=%fused
  ROOT %tuple.3 = (s32[], f32[4]{0}) tuple(%while.3, %call.3)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %copy.4 = f32[4]{0} copy(%a)
  %while.4 = (s32[], f32[4]{0}) while(%copy.4), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  %branch.4 = f32[4]{0} conditional(%a, %a), branch_computations={%fused, %fused}
  ROOT %bitcast.4 = f32[4]{0} bitcast(%while.4)
}
"""  # noqa: E501


def test_kernels_of_a_program_by_hand():
    """A turn of the outer loop: five of the inner one, a product, an addition."""
    total, loops = count_kernels(HLO)
    assert loops == [Loop(5, 1), Loop(3, 5 + 1 + 1)]
    assert total == 1 + 3 * 7 + 2  # the copy, the loop, both branches


def test_a_loop_of_unknown_length_is_not_counted():
    with pytest.raises(ValueError, match="turns of a loop are not known: %while.4"):
        count_kernels(HLO.replace("known_trip_count", "unknown"))


@pytest.mark.slow
def test_the_update_compiles_for_a_gpu():
    """XLA has failed to compile it: it computed an optimiser's step again inside a product."""
    if not has_cuda_compiler():
        pytest.skip("XLA's compiler for CUDA is not installed: see experiments.benchmarks.kernels")
    result = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.kernels", "`released` 50x50, bfloat16"],
        cwd=ROOT, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert 2000 < found["kernels"] < 2800
    turns = [turns for turns, _ in found["loops"]]
    assert turns == [50 // 8] * 2  # of filtering, and of its gradient
