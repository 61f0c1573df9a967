"""The gallery: every recipe trained at a budget fixed beforehand, its pictures, and its row of figures.

    python benchmarks/gallery.py                      # all: many hours; goes on where it was stopped
    python benchmarks/gallery.py --only cgan,vae      # some entries
    python benchmarks/gallery.py --only ablation      # or a group: points, digits, stacked-mnist, ablation, others
    python benchmarks/gallery.py --short --out SHORT --docs SHORT/docs    # some steps of each: does it run?
    python benchmarks/gallery.py --times              # how long each takes on this machine, from some steps of each

Each entry is a command, `scratchgan train ARGUMENTS`, so that anybody can repeat it: its run lies in OUT/NAME. What is
there is resumed, to the same bits. Then the run is measured (`scratchgan evaluate`, seed 0), its pictures are copied to
DOCS/gallery, its figures to DOCS/gallery/figures.jsonl, and the tables of DOCS/gallery.md and of the README beside DOCS
are written anew from that file. Of a run that diverges the entry tells so.

A time is steps times the median time of a step, measured alone on the machine (--times): the runs themselves may have
shared it.
"""

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")  # as scratchgan does, where it is imported before NumPy

from goodfellow import PUBLISHED
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from scratchgan.backend import cuda_problem

ROOT = Path(__file__).parents[1]
SCRATCHGAN = [sys.executable, "-m", "scratchgan"]

PENALISED = "--objective relativistic --beta1 0 --beta2 0.9 --beta2-final 0.99 --ema 200"
# name: the arguments of `scratchgan train`
DIGITS = {
    "mlp": "mlp --data mnist --epochs 101",
    "goodfellow": "goodfellow --data mnist --epochs 500 --device cuda",  # more than two hours on two cores
    "dcgan28": "dcgan28 --data mnist --epochs 10",
    "lsgan": "lsgan --data mnist --epochs 10",
    "wgan": "wgan --data mnist --epochs 100 --evaluate-every 9380 --evaluate classes",
    "wgan-gp": "wgan-gp --data mnist --epochs 60 --evaluate-every 5628 --evaluate classes",
    "wgan-gp28": "wgan-gp28 --data mnist --epochs 12",
    "ebgan": "ebgan --data mnist --epochs 2",
    "cgan": "cgan --data mnist --epochs 40",
    "progressive": "progressive --data mnist --steps 2000",  # a step of its last stage takes ten of the first
    "r3gan28": "r3gan28 --data mnist --steps 12000 --decay-steps 20000",
    "vae": "vae --data mnist --epochs 20",
}
POINTS = {
    "ring8": "ring8",
    "ring8-pairs": "ring8 --pack 2",
    "ring8-unrolled": "ring8 --unroll 5 --steps 5000",
    "ring8-relativistic": f"ring8 --r1 0.1 --r2 0.1 --gamma-final 0.02 {PENALISED}",
    "grid25": "grid25",
    "grid25-pairs": "grid25 --pack 2",
    "grid25-relativistic": f"grid25 --r1 0.05 --r2 0.05 --gamma-final 0.025 {PENALISED}",
    "spiral": "spiral",
}
STACKED = {
    "stacked": "stacked --steps 8000 --decay-steps 20000",
    "stacked-long": "stacked --steps 28000",
}
ABLATION = {
    f"ablation-{objective}-{name}": f"stacked --steps 2500 --decay-steps 20000 --objective {objective} {penalties}"
    for objective in ("relativistic", "non-saturating")
    for name, penalties in (("r1-r2", "--r1 1 --r2 1"), ("r1", "--r1 1 --r2 0"), ("none", "--r1 0 --r2 0"))
}
OTHERS = {
    "dcgan64": "dcgan64 --data mnist --epochs 1",
}
GROUPS = {"points": POINTS, "digits": DIGITS, "stacked-mnist": STACKED, "ablation": ABLATION, "others": OTHERS}
ENTRIES = {name: arguments for group in GROUPS.values() for name, arguments in group.items()}

SHORT = 40         # steps of --short
TIMED = 8          # seconds of steps for a time
MODES = (("modes", "modes", "d"), ("fairly covered", "fair", "d"), ("high quality", "hq", ".3f"), ("KL", "kl", ".3f"))
# Figures of the tables: (heading, name in the lines of `scratchgan evaluate --json`, how it is written)
COLUMNS = {
    "digits": (DIGITS, (("Frechet", "frechet", ".2f"), ("precision", "precision", ".3f"), ("recall", "recall", ".3f"),
                        ("Parzen, nats", "parzen", ".0f"), ("surer than .9", "sure", ".1%"),
                        ("rarest digit", "rarest", ".1%"))),
    "ring8": ([name for name in POINTS if name.startswith("ring8")], MODES),
    "grid25": ([name for name in POINTS if name.startswith("grid25")], MODES),
    "stacked": (STACKED | ABLATION, (("modes", "modes", "d"), ("KL", "kl", ".3f"), ("surer than .9", "sure", ".1%"))),
}


# -- runs ----------------------------------------------------------------------------------------------------------


def scratchgan(*arguments):
    """The lines that a command prints; CalledProcessError if it fails."""
    return subprocess.run([*SCRATCHGAN, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def train(command, run, short):
    """Begins the run, or goes on with it, to the end that the command names. Whether it came to its end."""
    recipe, *arguments = command.split()
    length = re.search(r"--(epochs|steps) (\d+)", command)
    if short:
        arguments = [*re.sub(r"--(epochs|steps) \d+", "", " ".join(arguments)).split(), "--steps", SHORT]
    if run.exists():
        if (found := json.loads((run / "config.json").read_text(encoding="utf-8"))["recipe"]) != recipe:
            raise SystemExit(f"{run} is a run of {found}, not of {recipe}: move it elsewhere")
        arguments = ["--resume", run, *(length.group().split() if length and not short else ())]
    else:
        device = [] if "--device" in arguments else ["--device", "cpu"]
        arguments = [recipe, *arguments, "--seed", 0, *device, "--out", run]
    try:
        scratchgan("train", *arguments, "--quiet")
    except subprocess.CalledProcessError as error:
        if error.returncode != 1:  # 1 is a run that diverged, which is a result
            raise SystemExit(f"{run}: scratchgan train ended with status {error.returncode}; to begin anew, delete "
                             "the folder") from error
        return False
    return True


def is_done(run):
    """Whether there is a run, and it has come to its end."""
    if not (run / "metrics.csv").exists():
        return False
    steps = json.loads((run / "config.json").read_text(encoding="utf-8"))["steps"]
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return any(int(row["step"]) == steps for row in csv.DictReader(file))


def measured(name, run, seed=0):
    """{set: figures}: of the samples and the yardsticks."""
    metrics = "frechet,precision-recall,classes,parzen" + (",conditional" if name == "cgan" else "")
    lines = scratchgan("evaluate", run, "--json", "--seed", seed,
                       *(("--metrics", metrics) if name in DIGITS else ())).splitlines()
    rows = [{key: value for key, value in json.loads(line).items() if key != "of"} for line in lines]  # a path here
    return {row["set"]: row for row in rows}


def copy_pictures(run, target):
    """The newest samples, of points the animation, every second picture; the curves but for the arms of the ablation,
    which have one picture together. Animation and curves in few colours."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name in POINTS:
        with Image.open(run / "training.gif") as animation:
            frames = [(in_few_colours(frame), frame.info["duration"]) for frame in ImageSequence.Iterator(animation)]
        between = [(frame, 2 * duration) for frame, duration in frames[2:-1:2]]
        (first, *others), durations = zip(frames[0], *between, frames[-1])
        first.save(target.with_suffix(".gif"), save_all=True, append_images=others, duration=durations, loop=0)
    else:
        shutil.copy(max((run / "samples").glob("*.png")), target.with_suffix(".png"))
    if target.name not in ABLATION:
        curves = in_few_colours(Image.open(run / "curves.png"))
        curves.save(target.with_name(f"{target.name}-curves.png"), optimize=True)


def in_few_colours(picture):
    """64, those of small things among them."""
    return picture.convert("RGB").quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def draw_ablation(out, target):
    """By step, for each objective: the difference of D's mean scores, and the norm of G's gradient."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    for column, objective in zip(figure.subplots(2, 2, sharex=True).T, ("relativistic", "non-saturating"),
                                 strict=True):
        for parts, label in (("r1-r2", "R1 and R2"), ("r1", "R1"), ("none", "neither")):
            path = out / f"ablation-{objective}-{parts}" / "metrics.csv"
            if not path.exists():
                continue
            with path.open(encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            steps = [int(row["step"]) for row in rows]
            column[0].plot(steps, [float(row["d_real"]) - float(row["d_fake"]) for row in rows], label=label)
            column[1].plot(steps, [float(row["grad_norm_generator"]) for row in rows], label=label)
        column[0].set(title=objective)
        column[1].set(xlabel="step", yscale="log")
        if column[0].lines:
            column[0].legend()
    figure.axes[0].set_ylabel("D(x) - D(G(z))")
    figure.axes[2].set_ylabel("norm of G's gradient")
    figure.savefig(target, dpi=100)


def make(name, options):
    """Trains, measures and keeps one entry."""
    run = options.out / name
    problem = cuda_problem() if "--device cuda" in ENTRIES[name] else None  # what is done is measured all the same
    if problem and not is_done(run):
        print(f"{name}: left out, as it is trained on CUDA and {problem}", flush=True)
        return
    print(f"{name}: scratchgan train {ENTRIES[name]} --seed 0", flush=True)
    finished = bool(problem) or train(ENTRIES[name], run, options.short)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    row = {"entry": name, "command": f"scratchgan train {ENTRIES[name]} --seed 0", "steps": config["steps"],
           "finished": finished, "versions": config["versions"], "sets": {}}
    if finished and name not in ("spiral", *OTHERS):
        row["sets"] = measured(name, run)
    copy_pictures(run, options.docs / "gallery" / name)
    if name in ABLATION:
        draw_ablation(options.out, options.docs / "gallery" / "ablation.png")
    keep(options.docs, row)


# -- figures -------------------------------------------------------------------------------------------------------


def kept(docs):
    """{entry: its row} of the file of figures."""
    path = docs / "gallery" / "figures.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
    return {row["entry"]: row for row in rows}


def keep(docs, row):
    """Adds to the row of this entry, or begins it, and writes the tables anew."""
    rows = kept(docs)
    rows[row["entry"]] = rows.get(row["entry"], {}) | row
    lines = [json.dumps(rows[name]) + "\n" for name in ENTRIES if name in rows]
    (docs / "gallery" / "figures.jsonl").write_text("".join(lines), encoding="utf-8")
    write_tables(docs)


def write_tables(docs):
    """All tables of the page and of the README, from the file of figures."""
    rows = kept(docs)
    for kind in COLUMNS:
        write_table(docs, kind, table(kind, rows))
    write_table(docs, "nats", nats(rows))


def write_table(docs, kind, text):
    """Puts the table where the page and the README beside the folder have marks for this kind."""
    for page in (docs / "gallery.md", docs.parent / "README.md"):
        whole = page.read_text(encoding="utf-8") if page.exists() else ""
        before, begin, rest = whole.partition(f"<!-- {kind} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if begin and end:
            page.write_text(before + begin + text + end + after, encoding="utf-8")


def table(kind, rows):
    """A table in Markdown: a row for each entry of the kind, then the yardsticks of the last of them."""
    entries, columns = COLUMNS[kind]
    made = {name: rows[name] for name in entries if name in rows}
    timed = any("minutes" in row for row in made.values())
    headings = [heading for heading, _, _ in columns] + ["steps"] + ["minutes"] * timed
    lines = ["| | " + " | ".join(headings) + " |", "|---|" + "---:|" * len(headings)]
    sets = {}
    for name, row in made.items():
        sets = row.get("sets") or sets
        figures = written(row["sets"]["samples"] if row.get("sets") else {}, columns)
        if not row["finished"]:
            figures[0] = "diverged"
        minutes = [f"{row['minutes']:.1f}" if "minutes" in row else ""] * timed
        lines.append(f"| `{name}` | " + " | ".join([*figures, f"{row['steps']:,}", *minutes]) + " |")
    lines += [f"| {name} | " + " | ".join([*written(figures, columns), "", *[""] * timed]) + " |"
              for name, figures in sets.items() if name != "samples"]
    return "\n".join(lines) + "\n"


def nats(rows):
    """A table of Parzen log-likelihoods, the best first, published ones among them."""
    found = {f"{name}, as published": figures for name, figures in PUBLISHED.items()}
    for name in DIGITS:
        sets = rows.get(name, {}).get("sets") or {}
        found |= {f"`{name}`" if of == "samples" else of: (sets[of]["parzen"], sets[of]["parzen_se"])
                  for of in ("samples", "training images") if of in sets}
    lines = ["| | nats |", "|---|---:|"]
    lines += [f"| {name} | {value:.0f} ± {error:.0f} |"
              for name, (value, error) in sorted(found.items(), key=lambda item: -item[1][0])]
    return "\n".join(lines) + "\n"


def written(figures, columns):
    return ["" if figures.get(name) is None else f"{figures[name]:{form}}" for _, name, form in columns]


# -- times ---------------------------------------------------------------------------------------------------------


def time_of_a_step(run, steps):
    """The median of some seconds of steps of the system in this folder, on what it was trained on. If it grows, the
    mean of that at points all over its run."""
    from scratchgan import training
    from scratchgan.profiling import labels_for, random_examples
    system, config = training.load(run), json.loads((run / "config.json").read_text(encoding="utf-8"))
    examples = random_examples(system, config["batch_size"], 0)
    labels, medians = labels_for(system, examples), []
    # Of three stages: the middle of each half, as they fade in and are trained whole.
    points = [steps * twelfths // 12 for twelfths in (1, 3, 5, 7, 9, 11)] if len(system.phases) > 1 else [steps]
    for point in points:
        system.steps = point
        system.draw_from(point)
        times, begun = [], time.perf_counter()
        while len(times) < 5 or time.perf_counter() - begun < TIMED / len(points):
            started = time.perf_counter()
            system.step(examples, labels)
            times.append(time.perf_counter() - started)
        medians.append(statistics.median(times[2:]))
    return statistics.mean(medians)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join([*GROUPS, *ENTRIES])}")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} steps of each")
    parser.add_argument("--times", action="store_true", help="how long those that were made take here")
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"), help="where the runs lie")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where pictures and figures go")
    options = parser.parse_args()
    names = []
    for name in options.only.split(",") if options.only else GROUPS:
        if name not in ENTRIES and name not in GROUPS:
            parser.error(f"unknown entry {name!r}: choose from {', '.join([*GROUPS, *ENTRIES])}")
        names += GROUPS.get(name, [name])
    if options.short and any(vars(options)[name] == parser.get_default(name) for name in ("out", "docs")):
        parser.error("--short leaves runs and figures that mean nothing: say where with --out and --docs")
    for name in dict.fromkeys(names):
        if not options.times:
            make(name, options)
        elif name in kept(options.docs):
            steps = kept(options.docs)[name]["steps"]
            minutes = steps * time_of_a_step(options.out / name, steps) / 60
            keep(options.docs, {"entry": name, "minutes": minutes})
            print(f"{name:<30} {minutes:6.1f} min")


if __name__ == "__main__":
    main()
