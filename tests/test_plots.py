"""Pictures: every pixel where it belongs, nothing half written."""

import numpy as np
import pytest
from PIL import Image

from scratchgan import plots
from scratchgan.files import replacing
from scratchgan.system import Grid, Panel, Points


def ramp(n, c=1, h=4, w=6):
    """n images, image i all of one value, from -1 to 1."""
    return np.broadcast_to(np.linspace(-1, 1, n)[:, None, None, None], (n, c, h, w)).astype(np.float32)


PANELS = (Panel("loss (nats)", {"loss_d": "D's loss", "loss_g": "G's loss"}),
          Panel("mean probability of being real", {"d_real": "D(x)", "d_fake": "D(G(z))", "d_fake_after": "after"},
                "probability"),
          Panel("norm of the gradient (L2)", {"grad_norm_discriminator": "D", "grad_norm_generator": "G"}, "log"))


def row(step, **values):
    usual = {"loss_d": 0.6, "loss_g": 1.0, "d_real": 0.6, "d_fake": 0.4, "d_fake_after": 0.3,
             "grad_norm_generator": 2.0, "grad_norm_discriminator": 1.0}
    return {"step": step, "epoch": step // 10, **usual, **values}


def test_grid_places_images_in_rows_with_gaps_between_them():
    picture = plots.image_grid(ramp(3), columns=2, pad=1, scale=1)
    assert picture.shape == (2 * 5 + 1, 2 * 7 + 1) and picture.dtype == np.uint8
    assert (picture[1:5, 1:7] == 0).all() and (picture[1:5, 8:14] == 128).all() and (picture[6:10, 1:7] == 255).all()
    outside = picture.copy()
    for top, left in ((1, 1), (1, 8), (6, 1)):
        outside[top:top + 4, left:left + 6] = plots.BACKGROUND
    assert (outside == plots.BACKGROUND).all()


def test_grid_scales_without_smoothing():
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (4, 1, 5, 5))
    small, large = plots.image_grid(images, scale=1), plots.image_grid(images, scale=3)
    np.testing.assert_array_equal(large[1::3, 1::3], small)
    np.testing.assert_array_equal(large, np.kron(small, np.ones((3, 3), np.uint8)))


@pytest.mark.parametrize("n, side, scale", [(25, 28, 3), (100, 28, 2), (25, 64, 1), (4, 512, 1)])
def test_automatic_scale(n, side, scale):
    picture = plots.image_grid(np.zeros((n, 1, side, side)))
    assert picture.shape == (scale * (2 + int(n ** 0.5) * (side + 2)),) * 2


def test_grid_of_colour_images():
    images = np.stack([np.full((2, 2), value) for value in (-1, 0, 1)])[None]
    picture = plots.image_grid(images, pad=1, scale=1)
    assert picture.shape == (4, 4, 3)
    assert picture[1, 1].tolist() == [0, 128, 255]


def test_values_outside_are_clipped_and_what_is_no_number_is_black():
    x = np.array([-3, -1, 0.5, 1, 7, np.nan, np.inf, -np.inf], np.float32)
    assert plots.to_pixels(x).tolist() == [0, 0, 191, 255, 255, 0, 255, 0]


def test_other_value_ranges():
    x = np.array([0, 0.5, 1, 2], np.float32)
    assert plots.to_pixels(x, (0, 1)).tolist() == [0, 128, 255, 255]
    assert plots.unit(np.array([-4.0, 0.0, 4.0, 9.0]), (-4, 4)).tolist() == [0, 0.5, 1, 1]
    grid = plots.drawn(Grid(np.zeros((4, 1, 3, 3)), 2), (0, 1))
    assert set(grid.ravel().tolist()) == {0, plots.BACKGROUND}
    assert plots.drawn(None) is None


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 1), (-4, 4)])
def test_bytes_are_pixels(value_range):
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    assert np.array_equal(plots.to_pixels(pixels, value_range), pixels)
    assert np.array_equal(plots.unit(pixels, value_range), pixels / 255)
    grid = plots.image_grid(pixels, 2, value_range=value_range)
    assert np.array_equal(grid, plots.image_grid(pixels / 255, 2, value_range=(0, 1)))


def test_points_lie_where_they_are():
    data = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]], np.float32)
    picture = plots.drawn(Points(data, np.array([[0.5, 1.0], [9, 0], [np.nan, 0]], np.float32)))
    assert picture.shape == (plots.PLANE + plots.LEGEND, plots.PLANE, 3) and picture.dtype == np.uint8
    picture = picture[:plots.PLANE]
    blue, red = ((picture == list(bytes.fromhex(colour[1:]))).all(axis=-1) for colour in (plots.BLUE, plots.VERMILION))
    assert blue.sum() == 4 * plots.DOT**2 and red.sum() == plots.DOT**2  # one sample lies outside, one is no number
    rows, columns = red.nonzero()
    assert rows.mean() < plots.PLANE / 4 and plots.PLANE / 2 < columns.mean() < 0.75 * plots.PLANE  # up, and right
    assert plots.drawn(Points(np.zeros((3, 2)), np.zeros((3, 2)))).min() == 0  # one point only


def test_scores_are_bands_and_gradients_arrows():
    data = np.array([[-1, -1], [1, 1]], np.float32)
    x = Points(data, data[:0]).mesh(50)[:, 0].reshape(50, 50)
    scores = 1 / (1 + np.exp(-x))
    at, arrows = np.zeros((3, 2)), np.array([[0, 2.0], [1e-9, 0], [np.nan, 0]])
    plain, moved = (plots.drawn(Points(data, data[:0], scores, (0, 1), *more))[:plots.PLANE].astype(int)
                    for more in ((), (at, arrows)))
    middle = plots.PLANE // 2
    red, blue = plain[middle, 5, 0] - plain[middle, 5, 2], plain[middle, -5, 2] - plain[middle, -5, 0]
    assert red > 50 and blue > 50 and plain[middle, middle + 6].min() > 240  # D: fake at the left, real at the right
    rows, columns = (moved != plain).any(axis=-1).nonzero()
    assert middle - plots.ARROW - 1 <= rows.min() and rows.max() <= middle + 1  # from the middle upwards
    assert middle - rows.min() > plots.ARROW - 2 and np.abs(columns - middle).max() <= 4
    for odd in (np.full((50, 50), 2.0), np.full((50, 50), np.nan), np.where(x > 0, np.inf, 0)):
        for between in ((0, 1), None):
            assert plots.drawn(Points(data, data[:0], odd, between, at, np.zeros((3, 2)))).std() >= 0


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 2, 4, 4), (0, 1, 4, 4)])
def test_grid_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"image_grid: expected images \(N, 1 or 3, H, W\)"):
        plots.image_grid(np.zeros(shape))


def test_png_holds_the_picture(tmp_path):
    picture = plots.image_grid(ramp(4))
    plots.save_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_grid_of_noise_is_a_small_file(tmp_path):
    """Noise is the worst that a grid of the usual 5 x 5 can hold."""
    images = np.random.default_rng(0).uniform(-1, 1, (25, 1, 28, 28))
    plots.save_png(tmp_path / "a.png", plots.image_grid(images))
    assert (tmp_path / "a.png").stat().st_size < 100_000


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half of the ")
        raise RuntimeError
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_gif_has_all_frames_in_order_and_holds_the_ends(tmp_path):
    frames = [np.full((20, 30), value, np.uint8) for value in (0, 85, 170, 255)]
    plots.save_gif(tmp_path / "a.gif", frames, seconds=0.1, hold=1)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 4 and image.size == (30, 20) and image.info["loop"] == 0
        for number, (value, duration) in enumerate([(0, 1000), (85, 100), (170, 100), (255, 1000)]):
            image.seek(number)
            assert image.info["duration"] == duration
            assert abs(np.asarray(image.convert("L")).astype(int) - value).max() <= 3


def test_gif_of_colours_with_captions(tmp_path):
    frames = [np.full((40, 60, 3), colour, np.uint8) for colour in ([200, 0, 0], [0, 0, 200])]
    plots.save_gif(tmp_path / "a.gif", frames, ["first", "second"])
    with Image.open(tmp_path / "a.gif") as image:
        first = np.asarray(image.convert("RGB")).astype(int)
        assert first.shape[0] > 40 and abs(first[:40] - [200, 0, 0]).max() <= 8
        assert first[40:].max() > 150  # the caption
        image.seek(1)
        second = np.asarray(image.convert("RGB")).astype(int)
        assert abs(second[:40] - [0, 0, 200]).max() <= 8 and (second[40:] != first[40:]).any()


# -- curves --------------------------------------------------------------------------------------------------------


def test_curves_show_every_metric_over_epochs():
    figure = plots.curves([row(step, loss_d=step / 10) for step in range(10, 60, 10)], PANELS, 10, "a run")
    top, _, bottom = figure.axes
    assert figure.get_suptitle() == "a run" and bottom.get_xlabel() == "epoch"
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss (nats)", "mean probability of being real", "norm of the gradient (L2)"]
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert labels[0] == ["D's loss", "G's loss"] and len(labels[1]) == 3 and len(labels[2]) == 2
    line = top.get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(line.get_ydata(), [1, 2, 3, 4, 5])
    assert bottom.get_yscale() == "log"


def test_no_legend_lies_over_its_axes():
    figure = plots.curves([row(step) for step in range(10, 60, 10)], PANELS, 10)
    figure.canvas.draw()
    for axes in figure.axes:
        assert axes.get_legend().get_window_extent().y0 >= axes.bbox.y1 - 1


def test_the_scale_of_a_panel():
    loss, middle, bottom = plots.curves([row(10), row(20)], PANELS).axes
    assert middle.get_ylim() == (-0.02, 1.02) and middle.get_lines()[-1].get_linestyle() == ":"
    assert loss.get_yscale() == middle.get_yscale() == "linear" and bottom.get_yscale() == "log"
    assert bottom.get_xlabel() == "step"
    share = plots.curves([row(10), row(20)], [Panel("share", {"d_real": "sure"}, "share")]).axes[0]
    assert share.get_ylim() == (-0.02, 1.02) and len(share.get_lines()) == 1
    zero = [row(10, grad_norm_generator=0.0, grad_norm_discriminator=0.0)]
    assert plots.curves(zero, PANELS).axes[2].get_yscale() == "linear"  # nothing to take the logarithm of


def test_metrics_that_no_panel_names_share_one_with_their_namesakes():
    rows = [{"step": 1, "epoch": 0, "loss_a": 1.0, "loss_b": 2.0, "kl": 3.0, "grad_norm_encoder": 1.0,
             "images_per_second": 5.0, "seconds": 1.0}, {"step": 2, "epoch": 0, "accuracy": 0.5}]
    own = Panel("divergence (nats)", {"kl": "KL", "jsd": "JSD"})
    unused = Panel("unused", {"nothing": "nothing"})
    assert plots.charts(rows, (unused, own)) == [own, Panel("loss", {"loss_a": "a", "loss_b": "b"}),
                                                 Panel("grad norm", {"grad_norm_encoder": "encoder"}),
                                                 Panel("accuracy", {"accuracy": "accuracy"})]
    figure = plots.curves(rows, (unused, own))
    assert [axes.get_ylabel() for axes in figure.axes] == ["divergence (nats)", "loss", "grad norm", "accuracy"]


@pytest.mark.parametrize("title", [r"mlp on x$\foo$, seed 0", "mlp on \udcffbad", "mlp on \u56fe\u7247"])
def test_a_title_is_no_formula(title, tmp_path, recwarn):
    """A data set has the name of its folder, whatever that is."""
    plots.save_curves(tmp_path / "a.png", [row(10)], PANELS, title=title)
    assert (tmp_path / "a.png").stat().st_size and not recwarn.list


def test_curves_with_gaps_and_one_row(tmp_path):
    rows = [row(10), row(20, loss_d=float("nan"), loss_g=float("inf")), row(30)]
    del rows[0]["d_fake_after"]
    plots.save_curves(tmp_path / "gaps.png", rows, PANELS, 10)
    plots.save_curves(tmp_path / "one.svg", [row(10)], PANELS, 10)
    plots.save_curves(tmp_path / "none.png", [{"step": 10}], PANELS, 10)
    with Image.open(tmp_path / "gaps.png") as image:
        assert image.format == "PNG" and image.width == 1080
    assert (tmp_path / "one.svg").read_bytes().startswith(b"<?xml")
    assert plots.curves([row(10)]).axes[0].get_lines()[0].get_marker() == "o"


@pytest.mark.parametrize("n", [20, 200])
def test_a_line_goes_through_values_that_not_every_row_has(n):
    """Where G learns at every fifth step only."""
    rows = [row(step, loss_g=float("nan") if step % 5 else 1.0) for step in range(1, n + 1)]
    line = plots.curves(rows, PANELS).axes[0].get_lines()[-1]
    assert line.get_label() == "G's loss" and np.isfinite(line.get_ydata()).all() and len(line.get_ydata()) >= n // 5


def test_long_curves_are_smoothed_over_the_values():
    rng = np.random.default_rng(0)
    rows = [row(step, loss_d=float(rng.normal(2, 1))) for step in range(1, 301)]
    pale, bold = plots.curves(rows, PANELS).axes[0].get_lines()[:2]
    np.testing.assert_allclose(pale.get_ydata(), [each["loss_d"] for each in rows])
    assert np.std(bold.get_ydata()) < 0.6 * np.std(pale.get_ydata())


def test_running_mean_ignores_gaps():
    y = plots.running_mean(np.array([1, np.nan, 3, 5, np.nan, np.nan, np.nan]), 3)
    np.testing.assert_allclose(y, [1, 2, 4, 4, 5, np.nan, np.nan])


def test_curves_leave_matplotlib_s_own_state_alone():
    import matplotlib._pylab_helpers as helpers
    before = list(helpers.Gcf.figs)
    plots.curves([row(10)])
    assert list(helpers.Gcf.figs) == before


# -- on the terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_text_is_no_wider_than_the_terminal(width, colour):
    import re
    text = plots.terminal(np.zeros((25, 28, 28), np.uint8), width, colour)
    lines = [re.sub("\x1b.*?m", "", line) for line in text.split("\n")]
    assert width // 3 < max(map(len, lines)) <= width and sum(not line for line in lines) == 1


def test_text_without_colours_has_shades_that_the_encoding_has():
    image = np.zeros((1, 4, 4), np.uint8)
    image[..., 2:] = 255
    assert plots.terminal(image, 80, False).split("\n") == ["  ██", "  ██"]
    assert plots.terminal(image, 80, False, "ascii").split("\n") == ["  @@", "  @@"]
    assert plots.terminal(image, 80, True, "ascii").split("\n") == ["  @@", "  @@"]
    assert plots.terminal(image, 80, False, None) == plots.terminal(image, 80, False, "ascii")


def test_half_blocks_have_the_colours_above_and_below():
    image = np.zeros((1, 2, 1), np.uint8)
    image[:, 0] = 255
    assert plots.terminal(image) == "\x1b[38;5;231;48;5;16m▀\x1b[0m"
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    assert plots.terminal([red]) == "\x1b[38;5;196;48;5;196m▀▀\x1b[0m"
