"""Reading checkpoints without PyTorch: the format, built by hand, and what is refused."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coworld_jax.torch_file import TorchFileError, read_tensors


class FloatStorage:
    """Stands for torch.FloatStorage in a pickle."""


class LongStorage:
    """Stands for torch.LongStorage."""


class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(
        self, key: str, count: int, offset: int, size: Any, stride: Any, kind: Any
    ) -> None:
        self.storage = (kind, key, count)
        self.place = (offset, size, stride)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2  # type: ignore[attr-defined]
        return rebuild, (Storage(*self.storage), *self.place, False, OrderedDict())


class Storage:
    """Pickled as a persistent id."""

    def __init__(self, kind: Any, key: str, count: int) -> None:
        self.pid = ("storage", kind, key, "cpu", count)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Storage) else None


@pytest.fixture(autouse=True)
def torch_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of PyTorch's names, so that pickle can refer to them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for storage in (FloatStorage, LongStorage):
        monkeypatch.setattr(storage, "__module__", "torch")
        setattr(torch, storage.__name__, storage)

    def _rebuild_tensor_v2(*_: Any) -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    yield


def save(path: Path, content: Any, storages: dict[str, np.ndarray]) -> Path:
    described = io.BytesIO()
    Pickler(described, protocol=2).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", described.getvalue())
        archive.writestr("archive/version", "3")
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers.tobytes())
    return path


def test_tensors_are_read_with_offsets_and_strides(tmp_path: Path) -> None:
    numbers = np.arange(12, dtype=np.float32)
    counts = np.array([7, 9], np.int64)
    state = OrderedDict(
        whole=Tensor("0", 12, 0, (3, 4), (4, 1), FloatStorage),
        turned=Tensor("0", 12, 1, (4, 2), (1, 4), FloatStorage),
        scalar=Tensor("1", 2, 1, (), (), LongStorage),
    )
    content = {"r3m": state, "step": 3, "more": [Tensor("1", 2, 0, (2,), (1,), LongStorage)]}
    found = read_tensors(save(tmp_path / "model.pt", content, {"0": numbers, "1": counts}))
    assert set(found) == {"r3m.whole", "r3m.turned", "r3m.scalar", "more.0"}
    np.testing.assert_array_equal(found["r3m.whole"], numbers.reshape(3, 4))
    np.testing.assert_array_equal(found["r3m.turned"], [[1, 5], [2, 6], [3, 7], [4, 8]])
    assert found["r3m.scalar"] == 9 and found["r3m.scalar"].dtype == np.int64
    np.testing.assert_array_equal(found["more.0"], counts)


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('pathlib').Path('touched').touch()",)


def test_a_pickle_that_calls_anything_else_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "evil.pt", {"weights": Malicious()}, {})
    with pytest.raises(TorchFileError, match=r"builtin\w*.eval, but only tensors") as raised:
        read_tensors(path)
    assert "evil.pt" in str(raised.value) and not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("0", 4, 2, (3,), (1,), FloatStorage), "beyond its storage"),
        (Tensor("0", 4, 0, (1000, 1000), (0, 0), FloatStorage), "beyond its storage"),
        (Tensor("0", 4, 0, (2,), (-1,), FloatStorage), "negative or unequal"),
        (Tensor("0", 9, 0, (2,), (1,), FloatStorage), "is damaged"),
        (Tensor("missing", 4, 0, (2,), (1,), FloatStorage), "is damaged"),
    ],
)
def test_tensors_that_do_not_fit_their_numbers_are_refused(
    tmp_path: Path, tensor: Tensor, message: str
) -> None:
    path = save(tmp_path / "bad.pt", {"weight": tensor}, {"0": np.zeros(4, np.float32)})
    with pytest.raises(TorchFileError, match=message) as raised:
        read_tensors(path)
    assert "bad.pt" in str(raised.value) and "\n" not in str(raised.value)


def test_other_files_are_named(tmp_path: Path) -> None:
    old = tmp_path / "old.pt"
    old.write_bytes(pickle.dumps({}))
    torn = save(tmp_path / "torn.pt", {"words": "x" * 999}, {})
    with zipfile.ZipFile(torn) as archive:
        content = archive.read("archive/data.pkl")
    with zipfile.ZipFile(torn, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content)
        start = archive.getinfo("archive/data.pkl").header_offset + 30 + len("archive/data.pkl")
    packed = bytearray(torn.read_bytes())
    packed[start : start + 4] = b"\xff" * 4
    torn.write_bytes(packed)
    empty = tmp_path / "empty.pt"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "")
    for path, message in (
        (tmp_path / "none.pt", "does not exist"),
        (old, "no zip archive"),
        (torn, "is damaged"),
        (empty, "no data.pkl"),
    ):
        with pytest.raises(TorchFileError, match=message) as raised:
            read_tensors(path)
        assert path.name in str(raised.value)
