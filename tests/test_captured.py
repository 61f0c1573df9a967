"""Steps recorded as a CUDA graph: to the bit those made one by one."""

import gc
import weakref

import numpy as np
import pytest
from small_games import Reads

from scratchgan import backend, recipes
from scratchgan.captured import CapturedStep, NoMemory, Unrecordable
from scratchgan.gan import Game, Latent
from scratchgan.layers import Linear, Sequential
from scratchgan.optimizers import SGD
from scratchgan.system import Metric, Metrics
from scratchgan.training.snapshot import arrays

BATCH = 6
RECORDABLE = sorted(set(recipes.names()) - {"progressive", "classifier"})
PARTS = {
    "dropout and momentum": ("goodfellow", {}),
    "schedules": ("r3gan28", {"gamma_final": 0.5, "decay_steps": 20, "schedule": "cosine"}),
    "betas": ("r3gan28", {"beta2_final": 0.999, "decay_steps": 20}),
    "average": ("mlp", {"ema": 3.0}),
    "instance noise": ("mlp", {"instance_noise": 0.3, "instance_noise_steps": 20}),
    "simultaneous": ("mlp", {"simultaneous": True}),
    "packs": ("mlp", {"pack": 2}),
    "penalties": ("mlp", {"r1": 1.0, "gp": 1.0, "weight_decay_d": 0.01, "diversity": 1.0}),
    "relativistic": ("mlp", {"objective": "relativistic"}),
}
CASES = {**{name: (name, {}) for name in RECORDABLE}, **PARTS}


def built(recipe, settings, device):
    recipe = recipes.get(recipe)
    return recipe.build(seed=0, device=device, steps=40, **{**recipe.small, **settings})


def filled(captured, rng):
    captured.batch[...] = backend.to_device(rng.uniform(-1, 1, captured.batch.shape).astype("float32"), "cuda")
    if captured.labels is not None:
        labels = rng.integers(0, captured.system.classes, captured.labels.shape)
        captured.labels[...] = backend.to_device(labels, "cuda")
    return captured


def assert_same_state(one, other):
    assert one.steps == other.steps
    for name, optimizer in one.optimizers.items():
        np.testing.assert_array_equal(optimizer.hyper, other.optimizers[name].hyper)
    for (key, a), b in zip(arrays(one).items(), arrays(other).values(), strict=True):
        np.testing.assert_array_equal(backend.to_host(a), backend.to_host(b), err_msg=str(key))


@pytest.mark.parametrize("case", CASES)
def test_recorded_steps_have_the_bits_of_steps_made_one_by_one(cuda, rng, case):
    recorded, eager = built(*CASES[case], cuda), built(*CASES[case], cuda)
    captured = filled(CapturedStep(recorded, (BATCH, *recorded.sample_shape), 2 * recorded.cycle), rng)
    expected = []
    for _ in range(4):  # eagerly, recorded, and twice more with other numbers
        expected += [eager.step(captured.batch[k], None if captured.labels is None else captured.labels[k])
                     for k in range(captured.steps)]
    metrics = [each for _ in range(4) for each in captured.run(captured.steps)]
    assert_same_state(recorded, eager)
    assert [set(each) for each in metrics] == [set(each) for each in expected]
    for a, b in zip(metrics, expected):
        assert dict(a) == pytest.approx(dict(b), rel=1e-5, abs=1e-6)


def test_metrics_of_a_launch_stay_when_the_next_has_run(cuda, rng):
    captured = filled(CapturedStep(built("mlp", {}, cuda), (BATCH, 1, 28, 28), 2), rng)
    captured.run(2)
    once, again = captured.run(2), captured.run(2)
    losses = [each["loss_d"] for each in (*once, *again)]
    assert len(set(losses)) == 4


def test_metrics_are_copied_once_a_launch_and_those_that_nobody_holds_never(cuda, rng):
    cupysim = pytest.importorskip("cupysim", reason="copies are counted by the emulation of CUDA")
    captured = filled(CapturedStep(built("mlp", {}, cuda), (BATCH, 1, 28, 28), 2), rng)
    captured.run(2)
    held = [captured.run(2) for _ in range(3)][1:]
    before = cupysim.counters()["d2h"]
    numbers = [dict(each) for launch in held for each in launch]
    assert cupysim.counters()["d2h"] - before == 2
    assert len({each["loss_d"] for each in numbers}) == 4


def test_a_launch_is_one_call_and_waits_for_nothing(cuda, rng):
    cupysim = pytest.importorskip("cupysim", reason="launches are counted by the emulation of CUDA")
    captured = filled(CapturedStep(built("mlp", {}, cuda), (BATCH, 1, 28, 28), 5), rng)
    captured.run(10)
    before = cupysim.counters()
    captured.run(10)
    made = {name: value - before[name] for name, value in cupysim.counters().items() if name != "names"}
    assert made["graph_launches"] == made["launches"] == made["h2d"] == 2  # the numbers that change, and what is kept
    assert made["syncs"] == made["d2h"] == made["d2d"] == made["mallocs"] == 0


@pytest.mark.parametrize("recipe, batch, most, products", [("mlp", 64, 36, 22), ("dcgan28", 2, 90, 22)])
def test_nodes_of_a_step_at_full_width(cuda, rng, recipe, batch, most, products):
    cupysim = pytest.importorskip("cupysim", reason="nodes are counted by the emulation of CUDA")
    captured = filled(CapturedStep(recipes.get(recipe).build(seed=0, device=cuda), (batch, 1, 28, 28)), rng)
    captured.run(1)
    before = cupysim.counters()
    captured.run(1)  # records, and launches
    after = cupysim.counters()
    names = {name: count - before["names"].get(name, 0) for name, count in after["names"].items()}
    assert after["graph_nodes"] - before["graph_nodes"] <= most
    assert names["cublasSgemm_v2"] + names["small_product"] - 4 == products  # 4: a product to begin with on each stream


def test_a_step_that_reads_a_number_cannot_be_recorded_and_the_system_is_as_it_was(cuda, rng):
    G, D = Sequential(Linear(3, 4)), Sequential(Reads(), Linear(4, 1))
    game = Game(G, D, "wasserstein", SGD(G), SGD(D), latent=Latent(3), sample_shape=(1, 2, 2)).initialize(0, cuda)
    captured = filled(CapturedStep(game, (BATCH, 1, 2, 2)), rng)
    captured.run(1)
    before = {key: value.copy() for key, value in arrays(game).items()}
    with pytest.raises(Unrecordable, match="a step cannot be recorded: "):
        captured.run(1)
    assert game.steps == game.optimizer_d.steps == 1
    for key, value in arrays(game).items():
        np.testing.assert_array_equal(backend.to_host(value), backend.to_host(before[key]))
    game.step(captured.batch[0])


def test_a_step_that_fails_without_a_word_cannot_be_recorded_either(cuda, rng, monkeypatch):
    game = built("mlp", {}, cuda)
    captured = filled(CapturedStep(game, (BATCH, 1, 28, 28)), rng)
    captured.run(1)

    def fail(player):
        raise AssertionError
    monkeypatch.setattr(game, "update", fail)
    with pytest.raises(Unrecordable, match="a step cannot be recorded: AssertionError"):
        captured.run(1)


def test_a_device_without_more_memory_ends_the_recording(cuda, rng, monkeypatch):
    """CuPy's pool would free what looks unused, which the steps recorded before use, and go on."""
    cupy, game = backend.module_of("cuda"), built("mlp", {}, cuda)
    captured, memory = filled(CapturedStep(game, (BATCH, 1, 28, 28), 2), rng), cupy.cuda.Memory
    captured.run(2)

    def in_the_first_step_only(size):
        if game.steps % 2:
            raise cupy.cuda.runtime.CUDARuntimeError(2)
        return memory(size)
    monkeypatch.setattr(cupy.cuda, "Memory", in_the_first_step_only)
    with pytest.raises(NoMemory, match="a step cannot be recorded: the device has no 1 MiB more for it"):
        captured.run(2)
    assert game.steps == 2


@pytest.mark.parametrize("status, name", [(2, "cudaErrorMemoryAllocation"), (700, "cudaErrorIllegalAddress")])
def test_what_the_device_says_is_told_and_whether_it_was_for_want_of_memory(cuda, rng, monkeypatch, status, name):
    cupy, captured = backend.module_of("cuda"), filled(CapturedStep(built("mlp", {}, cuda), (BATCH, 1, 28, 28)), rng)
    captured.run(1)

    def fail(captured, stream):
        raise cupy.cuda.runtime.CUDARuntimeError(status)
    monkeypatch.setattr(CapturedStep, "recorded", fail)
    with pytest.raises(Unrecordable, match=f"a step cannot be recorded: {name}") as raised:
        captured.run(1)
    assert isinstance(raised.value, NoMemory) == (status == 2)


def test_another_fault_than_want_of_memory_is_no_matter_of_the_pool(cuda, rng, monkeypatch):
    cupy, captured = backend.module_of("cuda"), filled(CapturedStep(built("mlp", {}, cuda), (BATCH, 1, 28, 28)), rng)
    captured.run(1)

    def broken(size):
        raise cupy.cuda.runtime.CUDARuntimeError(700)
    monkeypatch.setattr(cupy.cuda, "Memory", broken)
    with pytest.raises(Unrecordable, match="a step cannot be recorded: cudaErrorIllegalAddress"):
        captured.run(1)


def test_a_graph_that_nobody_holds_gives_its_memory_back(cuda, rng):
    captured = filled(CapturedStep(built("mlp", {}, cuda), (BATCH, 1, 28, 28)), rng)
    captured.run(2)
    pool, recording = captured.recording.pool, weakref.ref(captured.recording)
    gc.collect()
    gc.disable()
    try:
        del captured
        assert recording() is None and pool.used_bytes() == 0
    finally:
        gc.enable()


def test_vectors_that_lie_elsewhere_by_now_are_not_those_of_the_graph(cuda, rng):
    recorded, eager = built("mlp", {}, cuda), built("mlp", {}, cuda)
    captured = filled(CapturedStep(recorded, (BATCH, 1, 28, 28), 2), rng)
    for _ in range(4):
        captured.run(2)
        for k in range(2):
            eager.step(captured.batch[k])
        for system in (recorded, eager):
            for optimizer in system.optimizers.values():
                optimizer.load_state_dict(optimizer.state_dict())
    assert_same_state(recorded, eager)


class Told(Game):
    """Metrics of all kinds."""

    repeats = True

    def step(self, batch, labels=None):
        metrics = super().step(batch, labels).unread()
        mean = metrics["d_real"]
        return Metrics(metrics, three=3, four=lambda: 4.0, five=np.float32(5), six=Metric(lambda mean, x: x, 6.0),
                       double=lambda: 2 * mean.arrays[0].mean())


def test_metrics_may_be_numbers_and_functions(cuda, rng):
    G, D = Sequential(Linear(3, 4)), Sequential(Linear(4, 1))
    game = Told(G, D, "wasserstein", SGD(G), SGD(D), latent=Latent(3), sample_shape=(1, 2, 2)).initialize(0, cuda)
    captured = filled(CapturedStep(game, (BATCH, 1, 2, 2), 2), rng)
    for _ in range(2):
        for metrics in captured.run(2):
            assert [metrics[name] for name in ("three", "four", "five", "six")] == [3, 4, 5, 6]
            assert metrics["double"] == pytest.approx(2 * metrics["d_real"], rel=1e-5)


def test_what_cannot_repeat_is_refused(cuda):
    growing = built("progressive", {}, cuda)
    with pytest.raises(Unrecordable, match="the steps of GrowingGame are not known to repeat"):
        CapturedStep(growing, (BATCH, 1, 28, 28))
    game = built("wgan", {}, cuda)
    with pytest.raises(ValueError, match="steps must be a multiple of its cycle 5, not 3"):
        CapturedStep(game, (BATCH, 1, 28, 28), 3)
    captured = CapturedStep(game, (BATCH, 1, 28, 28), 5)
    with pytest.raises(ValueError, match="steps must be a multiple of 5, not 4"):
        captured.run(4)
    game.step(captured.batch[0])
    with pytest.raises(ValueError, match="in the middle of a cycle"):
        captured.run(5)
    with pytest.raises(ValueError, match="must be on CUDA"):
        CapturedStep(built("mlp", {}, "cpu"), (BATCH, 1, 28, 28))
