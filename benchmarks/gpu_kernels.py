"""The stages `sanitizer` and `gemm` of `gpu_day.sh`: do our kernels stay in their memory, and multiply rightly?

    python benchmarks/gpu_kernels.py 0 1     # the program that the sanitizer watches, all of it: share 0 of 1
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from importlib.util import find_spec

import numpy as np

SHARES, SECONDS = 12, 70      # processes side by side, and their time limit
BATCH = 5                     # an odd size for steps of the small recipes
ERROR = 17                    # the status of a program in which the sanitizer found something
SUMMARY = "ERROR SUMMARY:"
REPLAYS = 1000


# -- every kernel once ---------------------------------------------------------------------------------------------


def jobs():
    """[(name, function)]: every layer, forward and backward; each recipe's step, small and with an odd batch; each
    optimizer; recorded steps; random numbers."""
    from scratchgan import layers, optimizers, random, recipes
    from scratchgan.gradcheck.cases import layer_cases
    rng = np.random.default_rng(0)

    def layer_job(layer, shape):
        import cupy
        layer = layer.initialize(0).to("cuda")
        x = cupy.asarray(rng.standard_normal(shape).astype(np.float32))
        y = layer.forward(x)
        dy = cupy.asarray(rng.standard_normal(y.shape).astype(np.float32))
        layer.backward(dy)
        if type(layer).tangent is not layers.Layer.tangent:
            layer.backward(dy, "tangent")
            layer.tangent(x)

    def recipe_job(name):
        from scratchgan.profiling import labels_for, random_examples
        system = recipes.get(name).build(seed=0, device="cuda", **recipes.get(name).small)
        size = max(BATCH, system.smallest_batch)
        size += size % max(1, system.smallest_batch)
        examples = random_examples(system, size)
        for _ in range(2):
            system.step(examples, labels_for(system, examples))

    def optimizer_job(make):
        network = layers.Linear(7, 5).initialize(0).to("cuda")
        optimizer = make(network)
        for _ in range(2):
            network.grad[...] = 1
            optimizer.step()

    def recorded_job():
        from scratchgan.captured import CapturedStep
        system = recipes.get("mlp").build(seed=0, device="cuda", z_dim=4, widths_g=(8,), widths_d=(7,))
        CapturedStep(system, (BATCH, 1, 28, 28), steps=2).run(6)

    def noise_job():
        system = recipes.get("mlp").build(seed=0, device="cuda", z_dim=4, widths_g=(8,), widths_d=(7,),
                                           instance_noise=0.1)
        system.step(np.zeros((BATCH, 1, 28, 28), np.float32))

    def moments_job():  # which layers take together with what they are for
        import cupy

        from scratchgan import kernels
        for shape in ((1, 5, 7, 3, 3), (2, 3, 33, 1, 1)):
            x = cupy.asarray(rng.standard_normal(shape).astype(np.float32))
            kernels.of(x).batch_moments(x)

    def random_job(draw, shape):
        draw(shape, 0, "sanitizer", 3, device="cuda")

    odd = [(layers.Linear(37, 29), (13, 37)), (layers.Conv2d(5, 7, 4, 2, 1), (3, 5, 11, 9)),
           (layers.ConvTranspose2d(5, 3, 4, 2, 1), (3, 5, 7, 5)), (layers.Conv2d(3, 33, 3, 1, 1), (2, 3, 17, 15)),
           (layers.BatchNorm2d(7), (5, 7, 9, 11)), (layers.LayerNorm(131), (33, 131)),
           (layers.Maxout(17, 9, 5), (7, 17)), (layers.LeakyReLU(), (257, 3)), (layers.ReLU(), (257, 3)),
           (layers.Tanh(), (257, 3)), (layers.Sigmoid(), (257, 3)), (layers.Softplus(), (257, 3))]
    found = [(f"{type(layer).__name__} {shape}", lambda layer=layer, shape=shape: layer_job(layer, shape))
             for layer, shape in odd + [case[:2] for cases in layer_cases().values() for case in cases]]
    found += [(f"step of {name}", lambda name=name: recipe_job(name)) for name in recipes.names()]
    found += [(f"{make.__name__}", lambda make=make: optimizer_job(make))
              for make in (optimizers.SGD, optimizers.RMSprop, optimizers.Adam)]
    found.append(("SGD with momentum", lambda: optimizer_job(lambda network: optimizers.SGD(network, momentum=0.5))))
    found += [(f"{draw.__name__} {shape}", lambda draw=draw, shape=shape: random_job(draw, shape))
              for draw in (random.uniform, random.normal) for shape in ((3, 7), (257, 1), (1, 1031))]
    if find_spec("scratchgan.captured"):
        found.append(("recorded steps", recorded_job))
    found += [("instance noise", noise_job), ("moments of batches", moments_job)]
    found.append(("at_least", lambda: random.at_least(0.5, (5, 33), 0, "sanitizer", device="cuda")))
    return found


def once(share, shares):
    """Runs every `shares`-th job; prints a line of JSON: which ran, failed, what functions were used."""
    import cupy

    from scratchgan import kernels
    cupy.cuda.set_allocator(None)  # each array has memory of its own, so that what lies beyond it is nobody's
    functions, used, failed, ran = kernels.cupy.faster(), set(), [], []
    names = [name for name, function in vars(functions).items() if callable(function)]

    def counted(name, function):
        def call(*arguments, **named):
            used.add(name)
            return function(*arguments, **named)
        return call
    for name in names:
        setattr(functions, name, counted(name, getattr(functions, name)))
    start = time.monotonic()
    for name, job in jobs()[share::shares]:
        if time.monotonic() - start > SECONDS - 15:
            break
        try:
            job()
            cupy.cuda.Device().synchronize()
            ran.append(name)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:300]} "
                          f"{traceback.extract_tb(error.__traceback__)[-1]}")
    print("ONCE " + json.dumps({"ran": ran, "failed": failed, "used": sorted(used), "names": names}), flush=True)
    return not failed


def sanitizer_stage(short):
    """All jobs under memcheck, in shares side by side; then racecheck, if that was quick."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        print("compute-sanitizer is not on the PATH: the jobs run without it")
        return watched([], 2)
    start, options = time.monotonic(), ["--error-exitcode", str(ERROR), "--print-limit", "5"]
    sound = watched([program, "--tool", "memcheck", "--report-api-errors", "no", *options], SHARES)
    if sound and time.monotonic() - start < 25 and not short:
        sound = watched([program, "--tool", "racecheck", *options], SHARES)
    return sound


def outputs(running, start):
    """(process, what it printed) of each in turn; those that take too long are ended, and all, should this one be."""
    try:
        for process in running:
            try:
                text, _ = process.communicate(timeout=max(1, SECONDS - (time.monotonic() - start)))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with what the sanitizer has started
                text = process.communicate()[0] + "\nTIMED OUT"
            yield process, text
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def watched(before, shares):
    """Whether nothing is found in any share of the jobs; prints what is."""
    print(f"\n{' '.join(before) or 'alone'}", flush=True)
    start = time.monotonic()
    running = [subprocess.Popen([*before, sys.executable, __file__, str(share), str(shares)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
               for share in range(shares)]
    told, sound, done, jobs_of_all = {"ran": [], "failed": [], "used": [], "names": []}, True, 0, len(jobs())
    for process, text in outputs(running, start):
        lines = text.splitlines()
        report = next((json.loads(line.split("ONCE ", 1)[1]) for line in lines if line.startswith("ONCE ")), None)
        for key, values in (report or {}).items():
            told[key] += values
        clean = process.returncode == 0 and report is not None
        done += clean
        if not clean:
            sound = False
            print(f"status {process.returncode}\n" + "\n".join(line[:200] for line in lines[:60]), flush=True)
        elif before:
            summary = [line for line in lines if SUMMARY in line or "hazard" in line] or ["no summary"]
            print(summary[-1].strip("= "), flush=True)
    missing = sorted(set(told["names"]) - set(told["used"]))
    print(f"{done} of {shares} processes without errors; {len(told['ran'])} of {jobs_of_all} jobs, "
          f"{len(set(told['used']))} of {len(set(told['names']))} faster functions, {time.monotonic() - start:.0f} s"
          + (f"; NOT RUN: {', '.join(missing)}" if missing else ""))
    for failure in told["failed"]:
        print(f"FAILED {failure}")
    return sound and not missing


# -- products in a graph -------------------------------------------------------------------------------------------

SHAPES = ((64, 64, 256), (64, 256, 512), (64, 512, 784), (128, 784, 256), (128, 256, 128), (128, 128, 1),
          (784, 128, 256), (1, 1, 1), (3, 5, 7), (33, 1031, 65))


def gemm_stage(short):
    """C = A B in a graph, launched again and again on fresh A and B: the largest error against float64, in units of
    |A| |B| 2^-24; and whether eager products have the same bits. TF32 would make some hundreds of units."""
    import cupy

    from scratchgan import kernels
    replays, sound = 20 if short else REPLAYS, True
    pool = cupy.asarray(np.random.default_rng(0).standard_normal(1 << 21).astype(np.float32))
    stream = cupy.cuda.Stream(non_blocking=True)
    print(f"{replays} launches of each\n{'m, k, n':<16} {'of':<8} {'largest error':>13} {'bound':>6}   eager")
    for m, k, n in SHAPES:
        for layout in ("A B", "At B", "A Bt"):
            a = cupy.zeros((k, m) if layout == "At B" else (m, k), np.float32)
            b = cupy.zeros((n, k) if layout == "A Bt" else (k, n), np.float32)
            left, right = a.T if layout == "At B" else a, b.T if layout == "A Bt" else b
            c = cupy.zeros((m, n), np.float32)
            cupy.cuda.Device().synchronize()
            with stream:
                gemm = kernels.of(a).gemm
                gemm(left, right, c)
                stream.synchronize()
                stream.begin_capture()
                gemm(left, right, c)
                graph = stream.end_capture()
                worst, differ = cupy.zeros((), np.float64), cupy.zeros((), np.int64)
                for i in range(replays):
                    for which, array in enumerate((a, b)):
                        first = (i * 7919 + which * 104_729) % (pool.size - array.size)
                        array[...] = pool[first:first + array.size].reshape(array.shape)
                    graph.launch(stream)
                    if i % 10 == 0:
                        exact, size = (f(left).astype(np.float64) @ f(right).astype(np.float64)
                                       for f in (cupy.asarray, cupy.abs))
                        worst = cupy.maximum(worst, (cupy.abs(c - exact) / size).max())
                        differ += (gemm(left, right) != c).sum()
                stream.synchronize()
            units = float(worst) / 2**-24
            bound = 4 + k**0.5
            right_enough = units <= bound
            sound = sound and right_enough
            print(f"{f'{m}, {k}, {n}':<16} {layout:<8} {units:>13.2f} {bound:>6.0f}   "
                  f"{'same bits' if not int(differ) else f'{int(differ)} numbers differ'}"
                  f"{'' if right_enough else '   WRONG'}", flush=True)
    return sound


if __name__ == "__main__":
    sys.exit(0 if once(int(sys.argv[1]), int(sys.argv[2])) else 1)
