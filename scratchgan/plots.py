"""Pictures: grids of images, curves of a run, animations. Everything is written whole or not at all.

Images come as the engine gives them, float (N, C, H, W) in the value range of a system; pictures are uint8, (H, W)
grey or (H, W, 3).
matplotlib is imported where a curve is drawn, and only its objects are used: no state is shared with a caller's own
figures. Pillow does the rest.
"""

import io
import math
import warnings
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scratchgan.files import replacing
from scratchgan.system import Grid, Panel, Points, unit
from scratchgan.training.evaluation import PANELS
from scratchgan.training.folder import OWN_COLUMNS

BACKGROUND = 96  # between the images: neither the black nor the white of a digit, so that each is seen to its border
GRID_PIXELS, LARGEST_SCALE = 640, 3  # small images are enlarged so that they can be seen, at most to this many pixels
GREYS = 64  # of an animation: no eye tells them from 256, and the file is a third smaller
# From the palette of Okabe and Ito, which people of every colour vision tell apart; in grey they differ, too.
BLUE, VERMILION, ORANGE = "#0072B2", "#D55E00", "#E69F00"
LINES = [(BLUE, "-"), (VERMILION, "-"), (ORANGE, "--"), ("#009E73", "-"), ("#CC79A7", "--"), ("#56B4E9", "-"),
         ("#000000", ":")]  # of a chart, one after the other
PLANE, DOT = 480, 3  # pixels of a picture of points, and of a dot
BANDS, TINT, LINE = 20, 0.5, 0.2  # of level sets: how many, how much of their colours, how dark the lines between
FINER = 2  # times as fine are level sets and arrows drawn, before they become pixels
ARROW, DARK = 32, (40, 40, 40)  # pixels of the longest arrow, its colour
LEGEND = 20  # pixels of the line below
SMOOTH_FROM = 120  # rows from which a curve is drawn as its running mean over the values


def to_pixels(images, value_range=(-1, 1)):
    """Float to uint8 0..255, rounded; what lies outside the range is clipped, what is no number is black. Bytes are
    pixels already."""
    return np.rint(unit(np.nan_to_num(images, nan=value_range[0]), value_range) * 255).astype(np.uint8)


def drawn(picture, value_range=(-1, 1)):
    """A `Grid` or `Points` as a picture; None of None."""
    if isinstance(picture, Grid):
        return image_grid(picture.images, picture.columns, value_range=value_range or (0, 1))
    return points(picture) if isinstance(picture, Points) else None


def image_grid(images, columns=None, pad=2, scale=None, value_range=(-1, 1)):
    """The images (N, C, H, W) in rows of `columns` (default: a square), `pad` pixels around each, as a picture.

    Every pixel becomes `scale` x `scale`, without smoothing (default: so that small images can be seen).
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"image_grid: expected images (N, 1 or 3, H, W), got shape {images.shape}")
    n, c, h, w = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    picture = np.full((rows * (h + pad) + pad, columns * (w + pad) + pad, c), BACKGROUND, np.uint8)
    for i, image in enumerate(to_pixels(images, value_range).transpose(0, 2, 3, 1)):
        top, left = pad + i // columns * (h + pad), pad + i % columns * (w + pad)
        picture[top:top + h, left:left + w] = image
    picture = enlarge(picture, scale or min(LARGEST_SCALE, max(1, GRID_PIXELS // max(picture.shape))))
    return picture[..., 0] if c == 1 else picture


def enlarge(picture, scale):
    """Every pixel `scale` times as wide and high."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def points(picture):
    """`Points` as a picture: the data blue, the samples vermilion over them; points outside the window are not drawn.

    Behind them the level sets of D's scores, blue where it takes points for real, vermilion where not; over them arrows
    along which the samples are moved, as long as the gradient is large beside the others of the picture.
    """
    middle, half = picture.window
    canvas = (np.full((PLANE, PLANE, 3), 255, np.uint8) if picture.scores is None
              else level_sets(picture.scores, picture.scores_range))

    def pixels(each):
        return (each - middle) / half * [PLANE / 2, -PLANE / 2] + PLANE / 2
    for each, colour in ((picture.data, BLUE), (picture.samples, VERMILION)):
        at = np.floor(pixels(each[np.isfinite(each).all(axis=1)]) - DOT // 2)
        x, y = at[((at >= 0) & (at <= PLANE - DOT)).all(axis=1)].astype(np.int64).T
        for i in range(DOT):
            for j in range(DOT):
                canvas[y + i, x + j] = rgb(colour)
    if picture.arrows is not None:
        canvas = with_arrows(canvas, pixels(picture.at), picture.arrows * [1, -1])
    return np.concatenate([canvas, legend(picture)])


def legend(picture):
    """A line that says what is what, PLANE pixels wide."""
    strip = Image.new("RGB", (PLANE, LEGEND), (255, 255, 255))
    draw, x = ImageDraw.Draw(strip), 8
    parts = [(BLUE, "data")] if len(picture.data) else []
    parts += [(VERMILION, "samples")]
    parts += [(None, "D's scores: blue real, orange fake")] if picture.scores is not None else []
    parts += [(None, "arrows: -dL_G/dx")] if picture.arrows is not None else []
    for colour, text in parts:
        if colour:
            draw.rectangle([x, 7, x + 5, 12], rgb(colour))
            x += 11
        draw.text((x, LEGEND // 2), text, DARK, ImageFont.load_default(11), anchor="lm")
        x += int(draw.textlength(text, ImageFont.load_default(11))) + 18
    return np.asarray(strip)


def rgb(colour):
    """"#0072B2" as three bytes."""
    return tuple(bytes.fromhex(colour[1:]))


def level_sets(scores, scores_range=None):
    """Scores (M, M) as bands of colour with lines between them, a picture of PLANE pixels a side."""
    scores = np.nan_to_num(scores.astype(np.float64), posinf=1e30, neginf=-1e30)
    low, high = scores_range or (scores.min(), scores.max())
    t = np.clip((scores - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)
    t = np.asarray(Image.fromarray(t).resize((PLANE * FINER,) * 2, Image.Resampling.BICUBIC))
    band = np.clip(np.floor(t * BANDS), 0, BANDS - 1).astype(np.uint8)
    at = np.linspace(-1, 1, BANDS)[:, None]
    ends = np.where(at > 0, rgb(BLUE), rgb(VERMILION))
    colours = 255 + TINT * np.abs(at) * (ends - 255)
    fine = np.asarray(Image.fromarray(colours.astype(np.uint8)[band]).reduce(FINER)).copy()
    edge = np.zeros(band.shape, np.uint8)
    edge[:, 1:] |= band[:, 1:] != band[:, :-1]
    edge[1:] |= band[1:] != band[:-1]
    return over(fine, Image.fromarray(edge * 255), (0, 0, 0), LINE * FINER)


def with_arrows(canvas, at, arrows):
    """The picture with arrows (K, 2) from pixels `at` on; the longest has ARROW pixels, those too short no head."""
    lengths = np.hypot(*arrows.T)
    there = np.isfinite(lengths) & ((at >= 0) & (at < PLANE)).all(axis=1)
    if not there.any() or not lengths[there].max():
        return canvas
    ends = at + arrows * (ARROW / lengths[there].max())
    mask = Image.new("L", (PLANE * FINER,) * 2)
    draw = ImageDraw.Draw(mask)
    for start, end in zip(at[there] * FINER, ends[there] * FINER):
        along = end - start
        size = np.hypot(*along)
        if size < FINER:
            continue
        head = along / size * min(5 * FINER, size / 2)
        side = np.array([-head[1], head[0]]) * 0.5
        draw.line([*start, *(end - head)], 255, FINER + 1)
        draw.polygon([*end, *(end - head + side), *(end - head - side)], 255)
    return over(canvas, mask, DARK)


def over(canvas, mask, colour, strength=1.0):
    """The picture, with the colour where a mask, FINER times as fine, is set."""
    share = np.minimum(1, np.asarray(mask.reduce(FINER), np.float32)[..., None] * (strength / 255))
    return (canvas + share * (np.array(colour, np.float32) - canvas)).astype(np.uint8)


def save_png(path, picture):
    """Write a picture as PNG."""
    with replacing(path) as file:
        Image.fromarray(picture).save(file, "PNG")  # `optimize` takes five times as long for 3% fewer bytes


def save_gif(path, frames, captions=None, seconds=0.2, hold=1.5):
    """Write pictures of one size as an endless animation, each for `seconds`, the first and the last for `hold`.

    `captions` are short texts, one for each frame, put below it.
    """
    frames = [Image.fromarray(frame) for frame in frames]
    if captions:
        frames = [captioned(frame, text) for frame, text in zip(frames, captions, strict=True)]
    grey = all(frame.mode == "L" for frame in frames)
    frames = [fewer_greys(frame) if grey else frame.convert("RGB").quantize(256, dither=Image.Dither.NONE)
              for frame in frames]
    durations = [round(1000 * seconds)] * len(frames)
    durations[0] = durations[-1] = round(1000 * hold)
    with replacing(path) as file:
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def captioned(frame, text):
    """The frame with a line of text below it."""
    size = max(11, frame.height // 24)
    high = size + size // 2
    out = Image.new(frame.mode, (frame.width, frame.height + high), 0 if frame.mode == "L" else (0, 0, 0))
    out.paste(frame)
    white = 255 if frame.mode == "L" else (255, 255, 255)
    ImageDraw.Draw(out).text((out.width // 2, frame.height + high // 2), text, white,
                             ImageFont.load_default(size), anchor="mm")
    return out


def fewer_greys(frame):
    """A grey picture with `GREYS` shades, one palette for all frames."""
    levels = np.rint(np.asarray(frame) * ((GREYS - 1) / 255)).astype(np.uint8)
    out = Image.frombytes("P", frame.size, levels.tobytes())
    out.putpalette(np.repeat(np.rint(np.linspace(0, 255, GREYS)).astype(np.uint8), 3).tobytes())
    return out


def curves(rows, panels=(), steps_per_epoch=None, title=None, evaluations=()):
    """The course of a run as a matplotlib figure: a chart for each of `charts(rows, panels)`, one above the other, and
    below them those of its evaluations.

    rows             one mapping for each logged step, of numbers by the names of metrics.csv; what a row lacks or
                     what is not finite leaves a gap
    panels           `System.panels`
    steps_per_epoch  turns steps into epochs; without it the axis counts steps
    evaluations      rows of evaluations.jsonl
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = set().union(*evaluations)
    panels = [*((panel, rows) for panel in charts(rows, panels)),
              *((panel, evaluations) for panel in PANELS if not measured.isdisjoint(panel.metrics))]
    figure = Figure(figsize=(9, 0.5 + 3 * max(1, len(panels))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)[:, 0]
    if title:
        figure.suptitle(plain_text(title), fontsize=12, parse_math=False)
    for each, (panel, rows) in zip(axes, panels):
        draw(each, column(rows, "step") / (steps_per_epoch or 1), rows, panel.metrics)
        each.set_ylabel(panel.title)
        if panel.scale == "probability":
            each.axhline(0.5, color="0.45", linewidth=0.8, linestyle=":")
        if panel.scale in ("probability", "share"):
            each.set_ylim(-0.02, 1.02)
        elif panel.scale == "log" and any((column(rows, name) > 0).any() for name in panel.metrics):
            each.set_yscale("log", nonpositive="mask")
    axes[-1].set_xlabel("epoch" if steps_per_epoch else "step")
    return figure


def charts(rows, panels=()):
    """The panels of which the rows have metrics, then one for each group of metrics that are in none.

    A group are those whose names begin with the same word, all but the last one if that is more: loss_a and loss_b.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in OWN_COLUMNS]
    panels = [panel for panel in panels if not panel.metrics.keys().isdisjoint(names)]
    groups = {}
    for name in names:
        if not any(name in panel.metrics for panel in panels):
            first, _, last = name.rpartition("_")
            groups.setdefault(first or last, {})[name] = last
    return [*panels, *(Panel(group.replace("_", " "), metrics) for group, metrics in groups.items())]


def column(rows, name):
    """One metric of all rows as an array; NaN for what is missing or not finite."""
    values = np.array([row.get(name, math.nan) for row in rows], np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def draw(axes, x, rows, metrics):
    """A line for each of {metric: label}; long ones as the running mean, the values pale behind it. Standard errors
    are bars."""
    for (name, label), (colour, style) in zip(metrics.items(), cycle(LINES)):
        y = column(rows, name)
        if not np.isfinite(y).any():
            continue
        errors = column(rows, f"{name}_se")
        if len(y) >= SMOOTH_FROM:
            axes.plot(x, y, color=colour, alpha=0.22, linewidth=0.7)
            y = running_mean(y, max(5, len(y) // 60))
        elif np.isfinite(errors).any():
            axes.errorbar(x, y, np.nan_to_num(errors), color=colour, linestyle="none", marker=".", elinewidth=1)
        known = np.isfinite(y)  # not in each row, if G learns in some steps only
        marker = "o" if known.sum() == 1 else None  # a line through one point is nothing
        axes.plot(x[known], y[known], color=colour, linestyle=style, linewidth=1.6, label=label, marker=marker)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_lines():  # above the panel, where it hides nothing
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2)


def running_mean(y, width):
    """The mean of what is finite in a window of `width` around each value; shorter windows at the ends."""
    finite = np.isfinite(y)
    total = np.convolve(np.where(finite, y, 0), np.ones(width), "same")
    count = np.convolve(finite, np.ones(width), "same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def plain_text(text):
    """The text with a question mark for what is no character, as names of files may have it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def save_curves(path, rows, panels=(), steps_per_epoch=None, title=None, evaluations=()):
    """Draw `curves` into a file of the format that its ending names: png (1080 pixels wide), svg or pdf."""
    save_figure(path, curves(rows, panels, steps_per_epoch, title, evaluations))


def save_figure(path, figure):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(buffer, format=Path(path).suffix[1:].lower(), dpi=120)
    with replacing(path) as file:
        file.write(buffer.getvalue())


def bars(result, title=None):
    """A profile (`scratchgan.profiling`) as a matplotlib figure: a bar for each layer and update, in its order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from scratchgan.profiling import short
    rows = [(owner, part) for owner in result.owners() for part in (None, *result.of(owner))]
    names = [*(owner if part is None else short(part.name) for owner, part in rows), "the rest"]
    figure = Figure(figsize=(9, 1.4 + 0.25 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if title:
        figure.suptitle(plain_text(title), fontsize=12, parse_math=False)
    left = np.zeros(len(names))
    for method, colour, label in (("forward", BLUE, "forward"), ("backward", VERMILION, "backward"),
                                  ("step", ORANGE, "update")):
        widths = np.array([part.seconds.get(method, 0) * 1e3 if part else 0 for _, part in rows] + [0])
        axes.barh(range(len(names)), widths, left=left, color=colour, label=label, height=0.75)
        left += widths
    left[-1] = result.rest * 1e3
    axes.barh(len(rows), left[-1], color="0.6", height=0.75)
    for y, width in enumerate(left):
        if y == len(rows) or rows[y][1]:
            axes.text(width, y, f" {width / result.seconds / 10:.1f}%", va="center", fontsize=8, color="0.3")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for label, (_, part) in zip(axes.get_yticklabels(), rows):
        label.set_fontweight("normal" if part else "bold")
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.09, y=0.01)
    axes.set_xlabel("milliseconds of a step")
    axes.grid(axis="x", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2)
    return figure


def terminal(pictures, width=80, colour=True, encoding="utf-8"):
    """The first pictures, all of one size, as text: one or two rows of at most five, at most `width` characters wide.

    A character shows two pixels, one above the other: as a half block in two of 256 colours, or, without `colour`,
    as one of five shades, which are ASCII if the encoding has no others.
    """
    h, w = pictures[0].shape[:2]
    across = min(5, len(pictures))
    shrink = next((n for n in range(1, max(h, w)) if across * (-(-w // n) + 1) <= width + 1), max(h, w))
    small = [np.asarray(Image.fromarray(each).convert("RGB").reduce(shrink)) for each in pictures[:10]]
    return "\n\n".join(text_row(small[start:start + 5], colour, encoding) for start in range(0, len(small), 5))


def text_row(images, colour, encoding):
    gap = np.zeros((images[0].shape[0], 1, 3), np.uint8)
    strip = np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1).astype(int)
    if len(strip) % 2:
        strip = np.concatenate([strip, np.zeros_like(strip[:1])])
    upper, lower = strip[::2], strip[1::2]
    if colour and can_encode("▀", encoding):
        lines = zip(palette256(upper), palette256(lower))
        return "\n".join(half_blocks(top, bottom) for top, bottom in lines)
    shades = " ░▒▓█" if can_encode("░▒▓█", encoding) else " .+#@"
    levels = (upper.mean(axis=-1) + lower.mean(axis=-1)) / 2 * len(shades) / 256
    return "\n".join("".join(shades[level] for level in line) for line in levels.astype(int).tolist())


def can_encode(text, encoding):
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def palette256(rgb):
    """The nearest of a terminal's 256 colours: 24 greys from 232 on, a cube of 6 x 6 x 6 from 16 on."""
    r, g, b = np.moveaxis(np.rint(rgb * (5 / 255)).astype(int), -1, 0)
    level = np.rint((rgb.mean(axis=-1) - 8) / 10).astype(int)  # grey number k has the value 8 + 10 k
    grey = np.where(level < 0, 16, np.where(level > 23, 231, 232 + level))
    return np.where(np.ptp(rgb, axis=-1) < 8, grey, 16 + 36 * r + 6 * g + b).tolist()


def half_blocks(top, bottom):
    """A line of "▀" with the colours above and below; codes only where the colours change."""
    parts, last = [], None
    for pair in zip(top, bottom):
        if pair != last:
            parts.append(f"\x1b[38;5;{pair[0]};48;5;{pair[1]}m")
            last = pair
        parts.append("▀")
    return "".join(parts) + "\x1b[0m"
