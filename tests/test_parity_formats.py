"""Which file belongs to which format, and the check of resized images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_augment import bicubic, frames

from experiments.parity import FORMATS, FixtureError, check_parity
from experiments.parity.r3m import _tensor

SIGNS = {
    "drq_bc": ("cfg/bc_weight", "in/obs"),
    "cql": ("cfg/min_q_weight", "in/obs"),
    "curl": ("w/curl/W", "in/obs"),
    "offline_dv2": ("w/rssm/gru_norm/scale", "rssm/in/embed"),
    "lompo": ("w/rssm/gru/recurrent_kernel", "in/image"),
    "r3m": ("w/names", "w/shapes"),
    "resize": ("in/img64", "out/img84"),
    "networks": ("w/dynamics/_cell._layer.weight", "in/image"),
}


@pytest.mark.parametrize("name", SIGNS)
def test_each_file_has_one_format(name: str) -> None:
    arrays = {sign: np.zeros(1) for sign in SIGNS[name]}
    found = [form.__name__.rsplit(".", 1)[1] for form in FORMATS if form.recognise(arrays)]
    assert found == [name]


def resized(size: int) -> dict[str, np.ndarray]:
    image = frames(5, 1, 8, 8, 3)
    return {"in/img8": image, f"out/img{size}": bicubic(image[0], size)[None].astype(np.uint8)}


def test_resized_images_pass_and_other_kernels_do_not(tmp_path: Path) -> None:
    path = tmp_path / "resize.npz"
    arrays = resized(11)
    np.savez(path, **arrays)
    assert [(d.quantity, d.passed) for d in check_parity(path)] == [("img11", True)]
    wrong = dict(arrays)
    wrong["out/img11"] = arrays["out/img11"].copy()
    wrong["out/img11"][0, 3, 4, 1] ^= 4
    np.savez(path, **wrong)
    assert not check_parity(path)[0].passed
    pillow = Image.fromarray(arrays["in/img8"][0]).resize((11, 11), Image.Resampling.BICUBIC)
    np.savez(path, **arrays | {"out/img11": np.asarray(pillow)[None]})
    with pytest.raises(FixtureError, match=r"more than 0.5 % of out/img11"):
        check_parity(path)


def test_the_weight_rule_is_written_in_whole_numbers() -> None:
    def number(i: int, j: int) -> float:
        x = (i * 2654435761 + j * 40503 + 12345) % 2**32
        for _ in range(2):
            x ^= x >> 16
            x = x * 0x45D9F3B % 2**32
        return (x ^ (x >> 16)) / 2**31 - 1.0

    kernel = _tensor("layer1.0.conv1.weight", 7, (2, 3, 3, 3))
    np.testing.assert_allclose(kernel.reshape(-1)[11], np.sqrt(6 / 27) * number(11, 7), rtol=1e-6)
    norm = _tensor("layer1.0.bn2.weight", 9, (4,))
    np.testing.assert_allclose(norm[3], 0.5 * (1.0 + 0.2 * number(3, 9)), rtol=1e-6)
    var = _tensor("bn1.running_var", 4, (4,))
    np.testing.assert_allclose(var[2], 1.0 + 0.5 * number(2, 4), rtol=1e-6)
