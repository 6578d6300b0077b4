"""Value bias by hand and by loop; pictures by the pixels and the lines that they hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from coworld_jax.evaluation.pictures import (
    CONDITIONED,
    film_strip,
    open_loop_frames,
    returns_figure,
    tile,
    value_bias_figure,
    write_gif,
    write_png,
)
from coworld_jax.evaluation.scores import critic_values, draw, judge_values
from coworld_jax.evaluation.value_bias import cumulative_bias, discounted_returns, value_bias
from coworld_jax.method import Player
from coworld_jax.types import Episode


def test_discounted_returns_equal_the_double_sum() -> None:
    rng = np.random.default_rng(0)
    for length in (1, 2, 17):
        rewards, discount = rng.normal(size=length) + np.arange(length), 0.9
        expected = [
            sum(discount ** (k - t) * rewards[k] for k in range(t, length)) for t in range(length)
        ]
        np.testing.assert_allclose(discounted_returns(rewards, discount), expected, rtol=1e-12)


def test_value_bias_of_a_small_example() -> None:
    # G_3 = 8, G_2 = 0 + 8/4 = 2, G_1 = 4 + 2/4 = 4.5, G_0 = 1 + 4.5/4 = 2.125.
    # The tails weigh 1/256, 1/64, 1/16, 1/4: all but the last state count.
    bias = value_bias(np.array([3.125, 4.5, 1.0, 108.0]), np.array([1.0, 4.0, 0.0, 8.0]), 0.25)
    np.testing.assert_allclose(bias.per_state, [1.0, 0.0, -1.0, 100.0])
    assert bias.valid.tolist() == [True, True, True, False]
    assert bias.mean == pytest.approx(0.0)


def test_value_bias_counts_the_first_state_of_a_short_episode_and_all_of_a_terminated_one() -> None:
    # 0.5 ** 3 = 0.125 > 0.1: no state is complete. G = [1 + 1 + 0.75, 2 + 1.5, 3].
    values, rewards = np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0])
    short = value_bias(values, rewards, 0.5)
    assert short.valid.tolist() == [True, False, False] and short.mean == pytest.approx(-0.75)
    whole = value_bias(values, rewards, 0.5, terminated=True)
    assert whole.valid.all() and whole.mean == pytest.approx((-0.75 - 0.5 + 1.0) / 3)


def test_value_bias_of_a_true_critic_stays_below_the_tail() -> None:
    # Reward 1 forever is worth 1 / (1 - 0.95) = 20; what the cut hides is at most a tenth of it.
    bias = value_bias(np.full(200, 20.0), np.ones(200), 0.95)
    assert bias.valid.sum() == 200 - 45 + 1  # 0.95 ** 45 = 0.0994, 0.95 ** 44 = 0.1047
    assert 0.0 < bias.mean < bias.per_state[bias.valid].max() <= 0.1 * 20.0


def test_cumulative_bias_of_a_small_example() -> None:
    # 3 + 5 + 2 = 10, less 1 + 4 / 2 + 8 / 4 = 5.
    assert cumulative_bias(np.array([3.0, 5.0, 2.0]), np.array([1.0, 4.0, 8.0]), 0.5) == 5.0
    with pytest.raises(ValueError, match="shapes are"):
        cumulative_bias(np.ones(2), np.ones(3), 0.5)


def test_every_critic_is_judged_by_what_the_episodes_paid(tmp_path: Path) -> None:
    """Two episodes, the second of them ended by its task and padded."""
    own = np.array([[3.125, 2.0], [4.5, 4.0], [1.0, np.nan], [108.0, np.nan]])
    source = np.array([[4.125, 1.0], [6.5, 6.0], [4.0, np.nan], [7.0, np.nan]])
    player = Player(
        *("image", lambda state: state, lambda size: (), lambda *args: args, 0.25),
        values=lambda *args: {"critic": own, "source": source},
    )

    def episode(reward: list[float], last: float) -> Episode:
        rows = len(reward)
        image, action = np.zeros((rows, 64, 64, 3), np.uint8), np.zeros((rows, 1), np.float32)
        discount = np.array([1.0] * (rows - 1) + [last], np.float32)
        return Episode(image, action, np.array(reward, np.float32), discount, {})

    played = [episode([1.0, 4.0, 0.0, 8.0], 1.0), episode([1.0, 4.0], 0.0)]
    values = critic_values(player, (), played, 0)
    figures = judge_values(player, played, values)
    # G is [2.125, 4.5, 2, 8] and [2, 4]; the last state of the first episode does not count.
    assert figures == pytest.approx(
        {
            "value_bias": (0.0 + 0.0) / 2,
            "cumulative_bias": ((116.625 - 2.125) + (6.0 - 2.0)) / 2,
            "bias_source": ((2.0 + 2.0 + 2.0) / 3 + (-1.0 + 2.0) / 2) / 2,
            "above_source": 2 / 6,  # of the visited states, not of the padding
        }
    )
    draw(player, (), played, values, tmp_path / "target", "")
    assert (tmp_path / "target_value_bias.png").exists()
    mute = player._replace(values=None)
    assert judge_values(mute, played, critic_values(mute, (), played, 0)) == {}


def test_value_bias_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shapes are \(2,\) and \(3,\)"):
        value_bias(np.ones(2), np.ones(3), 0.9)
    with pytest.raises(ValueError, match="at least one"):
        value_bias(np.ones(0), np.ones(0), 0.9)
    with pytest.raises(ValueError, match=r"shape is \(2, 1\)"):
        discounted_returns(np.ones((2, 1)), 0.9)
    with pytest.raises(ValueError, match="it is 99"):
        discounted_returns(np.ones(2), 99)


def clip(time: int, height: int = 8, width: int = 6) -> np.ndarray:
    """Frames that differ: a smooth background with a square that moves."""
    frames = np.zeros((time, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(20, 60, width).astype(np.uint8)
    frames[..., 2] = 90
    for t in range(time):
        frames[t, t % height, t % width] = (250, 200, 10)
    return frames


def test_gif_holds_every_frame_at_its_size_and_speed(tmp_path: Path) -> None:
    frames = clip(7)
    write_gif(tmp_path / "new" / "a.gif", frames, fps=10, scale=3)
    with Image.open(tmp_path / "new" / "a.gif") as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (7, (18, 24), 0)
        read = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        assert image.info["duration"] == 100
    enlarged = frames.repeat(3, axis=1).repeat(3, axis=2).astype(int)
    assert np.abs(np.stack(read) - enlarged).max() <= 2  # few colours: the palette holds them all


def test_gif_keeps_the_colours_of_a_rendered_scene(tmp_path: Path) -> None:
    y, x = np.mgrid[0:64, 0:64]
    sky = np.stack([80 + x // 2, 120 + y, 180 + (x + y) // 4], -1)
    frames = np.repeat(sky[None], 12, 0).astype(np.uint8)
    for t in range(12):
        frames[t, 20:50, 5 + 4 * t : 9 + 4 * t] = (200, 140, 40)
    write_gif(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["duration"] == 50
        read = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    error = np.abs(np.stack(read).astype(int) - frames)
    assert error.mean() < 3 and error[5, 20:50, 25:29].max() <= 8
    # No dither: where the truth is flat, so is the picture.
    assert np.ptp(read[5][22:48, 26:28].reshape(-1, 3), axis=0).max() == 0


def test_frames_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"float64 \[2, 8, 6, 3\]"):
        write_gif(tmp_path / "a.gif", clip(2) / 255.0)
    with pytest.raises(ValueError, match=r"uint8 \[0, 8, 6, 3\]"):
        write_gif(tmp_path / "a.gif", clip(2)[:0])
    with pytest.raises(ValueError, match="frames per second, not 0"):
        write_gif(tmp_path / "a.gif", clip(2), fps=0)
    with pytest.raises(ValueError, match="not 0"):
        write_gif(tmp_path / "a.gif", clip(2), scale=0)
    assert not list(tmp_path.iterdir())


def test_tile_lays_clips_out_in_rows() -> None:
    frames = np.arange(1, 4, dtype=np.uint8)[None, :, None, None, None] * np.ones(
        (2, 1, 4, 5, 3), np.uint8
    )
    assert tile(frames).shape == (2, 4, 15, 3)
    grid = tile(frames, columns=2)
    assert grid.shape == (2, 8, 10, 3)
    assert [grid[1, 0, 0, 0], grid[1, 0, 5, 0], grid[1, 4, 4, 0], grid[1, 7, 9, 0]] == [1, 2, 3, 0]


def test_film_strip_spans_the_clip(tmp_path: Path) -> None:
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    strip = film_strip(frames, 4)
    assert strip.shape == (2, 12, 3) and strip[0, ::3, 0].tolist() == [0, 3, 6, 9]
    assert film_strip(frames, 99).shape == (2, 30, 3)
    write_png(tmp_path / "strip.png", strip, scale=2)
    with Image.open(tmp_path / "strip.png") as image:
        np.testing.assert_array_equal(np.asarray(image), strip.repeat(2, 0).repeat(2, 1))


def test_open_loop_frames_show_truth_model_and_error() -> None:
    truth = np.full((4, 2, 32, 32, 3), 0.2, np.float32)
    truth[:, 1] = 1.0
    model = truth.copy()
    model[2:, 0] = 0.8
    model[3, 1] = 7.0  # a decoder's mean may leave [0, 1]
    frames = open_loop_frames(truth, model, context=2)
    assert frames.shape == (4, 96, 64, 3) and frames.dtype == np.uint8
    middle = {"truth": 16, "model": 48, "error": 80}
    at = {name: frames[:, row, 16, 0].tolist() for name, row in middle.items()}
    assert at == {
        "truth": [51, 51, 51, 51],
        "model": [51, 51, 204, 204],
        "error": [128, 128, 204, 204],  # (0.8 - 0.2 + 1) / 2 * 255
    }
    assert frames[3, 48, 48, 0] == 255 and frames[3, 80, 48, 0] == 128
    for column in (0, 31, 32, 63):  # both examples have a border, while they see the truth
        assert tuple(frames[1, 48, column]) == CONDITIONED
        assert tuple(frames[2, 48, column]) != CONDITIONED
        assert tuple(frames[1, 16, column]) != CONDITIONED
    assert tuple(frames[0, 32, 10]) == tuple(frames[0, 63, 10]) == CONDITIONED
    assert tuple(frames[0, 33, 10]) != CONDITIONED


def test_open_loop_frames_refuse_what_does_not_fit() -> None:
    images = np.zeros((3, 1, 8, 8, 3))
    with pytest.raises(ValueError, match="shapes are"):
        open_loop_frames(images, images[:2], 1)
    with pytest.raises(ValueError, match="Of 3 frames, 4"):
        open_loop_frames(images, images, 4)
    with pytest.raises(ValueError, match=r"spans \[-0.5, 0\]"):
        open_loop_frames(images - 0.5 * (np.arange(3) > 1)[:, None, None, None, None], images, 1)


RECORDS = [
    {"updates": 0, "env_steps": 1000, "source/evaluation/return_mean": 40.0},
    {"updates": 50, "env_steps": 1500, "source/model/kl": 1.0},
    {
        "updates": 100,
        "env_steps": 2000,
        "source/evaluation/return_mean": 90.0,
        "source/evaluation/return_std": 15.0,
        "target/evaluation/return_mean": 30.0,
        "target/evaluation/return_std": 5.0,
    },
    {"updates": 200, "env_steps": 2000, "target/evaluation/return_mean": 60.0},
    {"updates": 300, "env_steps": 2000, "target/evaluation/return_mean": None},
]


def test_returns_figure_draws_one_panel_for_each_domain(tmp_path: Path) -> None:
    panels = returns_figure(
        tmp_path / "plots" / "returns.png",
        RECORDS,
        random_returns={"source": 42.0},
        titles={"target": "dmc/walker_downhill"},
    )
    assert list(panels) == ["source", "target"]
    mean, baseline = panels["source"].lines
    assert mean.get_xydata().tolist() == [[0, 40], [100, 90]]
    assert set(baseline.get_ydata()) == {42.0}
    (band,) = panels["source"].collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(0, 40), (100, 75), (100, 105)} <= corners
    (mean,) = panels["target"].lines
    assert mean.get_xydata().tolist() == [[100, 30], [200, 60]]
    assert [panels[d].get_title() for d in panels] == ["source", "dmc/walker_downhill"]
    with Image.open(tmp_path / "plots" / "returns.png") as image:
        assert image.size == (1144, 418)


def test_returns_figure_names_env_steps_above_updates(tmp_path: Path) -> None:
    panel = returns_figure(tmp_path / "returns.png", RECORDS)["source"]
    (above,) = (
        axes
        for axes in panel.figure.axes
        if axes.get_xlabel() == "env_steps"
        and axes.get_position().bounds == panel.get_position().bounds
    )
    assert above.get_xlim() == panel.get_xlim()
    labels = dict(
        zip(above.get_xticks(), (t.get_text() for t in above.get_xticklabels()), strict=True)
    )
    assert labels[0.0] == "1000" and labels[100.0] == "2000" and labels[40.0] == "1400"


@pytest.mark.parametrize("last", [1100, 5500, 10_007, 6_000_000])
def test_labels_of_env_steps_never_repeat(tmp_path: Path, last: int) -> None:
    """env_steps stand still in the target's phases, and the ticks stand close together."""
    steps = [1000, last, last, last, last, last + 500, last + 500]
    records = [
        {"updates": 100 * i, "env_steps": count, "source/evaluation/return_mean": float(i)}
        for i, count in enumerate(steps)
    ]
    panel = returns_figure(tmp_path / "returns.png", records)["source"]
    (above,) = (axes for axes in panel.figure.axes if axes.get_xlabel() == "env_steps")
    labels = [label.get_text() for label in above.get_xticklabels()]
    shown = [label for label in labels if label]
    assert len(labels) > len(shown) >= 2 and len(set(shown)) == len(shown)


def test_returns_figure_needs_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No evaluation to draw"):
        returns_figure(tmp_path / "returns.png", RECORDS[1:2])
    assert list(returns_figure(tmp_path / "returns.png", RECORDS[:1])) == ["source"]


def test_value_bias_figure_says_the_bias(tmp_path: Path) -> None:
    values, rewards = np.array([3.125, 4.5, 4.0, 108.0]), np.array([1.0, 4.0, 0.0, 8.0])
    bias, axes = value_bias_figure(tmp_path / "v.png", values, rewards, 0.25, title="target")
    assert bias.mean == pytest.approx(1.0)  # differences 1, 0, 2 over three states
    assert axes.get_title() == "target: value bias +1"
    critic, realised = axes.lines
    np.testing.assert_allclose(critic.get_ydata(), values)
    np.testing.assert_allclose(realised.get_ydata(), [2.125, 4.5, 2.0, 8.0])
    with Image.open(tmp_path / "v.png") as image:
        assert image.size == (704, 418)
