"""How a run makes its steps on CUDA: recorded, with the bits of steps made one by one."""

import json
import weakref
from unittest.mock import Mock

import numpy as np
import pytest
from small_games import Reads, small_game

from scratchgan import backend, recipes, report
from scratchgan.captured import CapturedStep, NoMemory, Unrecordable
from scratchgan.data.dataset import as_source
from scratchgan.errors import UserError
from scratchgan.gan import Game, Latent
from scratchgan.gan.updates import Update
from scratchgan.kernels.gemm import tf32_allowed
from scratchgan.layers import Dropout, Layer, Linear, Sequential, Tanh
from scratchgan.optimizers import SGD
from scratchgan.system import Metrics, System
from scratchgan.training import Callback, fit, stepping
from scratchgan.training.snapshot import Snapshot, arrays

TOLD = f"Steps are recorded as CUDA graphs, up to {stepping.TOGETHER} a launch; they have the same bits."


class EachStep(Callback):
    """Looks at every step."""

    def on_step(self, run):
        assert run.system.steps == run.step


class Intervals(Callback):
    """Looks at some."""

    each_step = False

    def __init__(self):
        self.seen = []

    def on_step(self, run):
        if run.step % run.config["sample_every"] == 0:
            assert run.system.steps == run.step
            self.seen.append(run.step)


def images(rng, n=46):
    return rng.integers(0, 256, (n, 1, 2, 2), dtype=np.uint8)


def trained(system, data, steps, callbacks=(), **more):
    """(the system, its history without times, the lines that were told)."""
    lines = []
    more = {"batch_size": 6, "log_every": 30, "sample_every": 45, **more}
    history = fit(system, data, steps, callbacks=callbacks, announce=lines.append, **more)
    for row in history:
        del row["images_per_second"], row["seconds"]
    return system, history, lines


def assert_same(one, other):
    others = arrays(other)  # a checkpoint may give an optimizer's vectors in another order
    assert arrays(one).keys() == others.keys()
    for key, a in arrays(one).items():
        np.testing.assert_array_equal(backend.to_host(a), backend.to_host(others[key]), err_msg=str(key))


@pytest.mark.parametrize("n_critic, flip", [(1, False), (1, True), (5, False)])
def test_a_run_has_the_bits_of_one_whose_steps_are_made_one_by_one(cuda, rng, n_critic, flip):
    data, watching = images(rng), Intervals()
    recorded, rows, lines = trained(small_game(cuda, n_critic=n_critic), data, 100, [watching], flip=flip)
    eager, expected, told = trained(small_game(cuda, n_critic=n_critic), data, 100, [EachStep()], flip=flip)
    assert lines == [TOLD] and watching.seen == [45, 90]
    assert told == ["Steps are made one by one, not recorded as a CUDA graph: EachStep looks at each of them."]
    assert_same(recorded, eager)
    assert rows == expected


def test_a_run_that_is_resumed_has_the_same_bits(cuda, rng, tmp_path):
    data = images(rng)
    whole, rows, _ = trained(small_game(cuda), data, 90)
    trained(small_game(cuda), data, 37, out=tmp_path / "run")
    resumed, again, _ = trained(small_game(cuda), data, 90, out=tmp_path / "run", resume=True,
                                batch_size=None, log_every=None, sample_every=None)
    assert_same(whole, resumed)
    assert again == rows


def test_an_early_picture_is_of_the_step_that_it_names(cuda, rng, monkeypatch):
    seen = []
    monkeypatch.setattr(report, "EARLY_STEPS", 33)  # in the middle of steps that are made together
    monkeypatch.setattr(Game, "picture", lambda system, run: seen.append((run.step, system.steps)))
    trained(small_game(cuda), images(rng), 44, [report.Pictures()])
    assert seen == [(0, 0), (37, 37), (44, 44)]


class Counts(Layer):
    """Depends on how often Python has run it, which a recorded step cannot know."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x):
        self.ops(x)
        self.passes += 1
        return self.keep(x * self.passes)

    def backward(self, dy, wrt="all"):
        self.kept(dy, wrt)
        return dy * self.passes


@pytest.mark.parametrize("layer, why", [(Counts, "they would not have the same bits"),
                                        (Reads, "a step cannot be recorded: ")])
def test_what_cannot_be_recorded_is_told_and_trained_one_by_one(cuda, rng, layer, why):
    G, D = Sequential(Linear(4, 4), Tanh()), Sequential(layer(), Linear(4, 1))
    system = Game(G, D, "non-saturating", SGD(G), SGD(D, lr=1e-6), latent=Latent(4), sample_shape=(1, 2, 2))
    _, rows, lines = trained(system.initialize(0, cuda), images(rng), 60)
    assert len(lines) == 1 and lines[0].startswith(f"Steps are made one by one, not recorded as a CUDA graph: {why}")
    assert rows[-1]["step"] == 60 and np.isfinite(rows[-1]["loss_d"])


def test_a_graph_that_finds_no_memory_leaves_the_others(cuda, rng, monkeypatch):
    record, lines = CapturedStep.record, []

    def of_whole_batches(graph):
        if graph.batch.shape[1] == 4:
            raise Unrecordable("no memory")
        record(graph)
    monkeypatch.setattr(CapturedStep, "record", of_whole_batches)
    made = stepping.maker(small_game(cuda), as_source(images(rng)).batches(6), [], lines.append)
    for epoch in range(0, 32, 8):
        made.make(epoch, 5)
        made.make(epoch + 5, 1)
        made.make(epoch + 6, 1)
        made.make(epoch + 7, 1)  # the four examples that are left
    assert lines == [TOLD, "Batches of 4, 1 at a time, are not recorded as a CUDA graph: no memory."]
    assert {key: graph.graph is not None for key, graph in made.graphs.items()} == {(6, 5): True, (6, 1): True}


LEFT = "The data make room on the device: from now on each batch is copied there."


def refused(steps, of=6):
    return f"Batches of {of}, {steps} at a time, are not recorded as a CUDA graph: no memory is left."


@pytest.mark.parametrize("where", ["record", "launch", "eagerly"])
def test_where_no_memory_is_left_for_a_graph_it_and_the_data_make_room_and_shorter_ones_are_tried(
        cuda, rng, monkeypatch, where):
    lines, batches, method, graphs = [], as_source(images(rng, 60)).batches(6), getattr(CapturedStep, where), []

    def full(graph):
        graphs.append(weakref.ref(graph))
        if graph.warm and graph.steps > 1:
            raise {"record": NoMemory("no memory is left"), "eagerly": MemoryError(),
                   "launch": backend.module_of("cuda").cuda.runtime.CUDARuntimeError(2)}[where]
        return method(graph)
    monkeypatch.setattr(CapturedStep, where, full)
    expected, others = small_game(cuda), small_game(cuda)
    made, one_by_one = stepping.maker(others, batches, [], lines.append), stepping.OneByOne(expected, batches)
    assert made.images is not None
    made.make(0, 5)
    make = stepping.OneByOne.make

    def alone(self, step, most=1):
        assert all(graph() is None for graph in graphs)  # an eager step needs memory, too
        return make(self, step, most)
    with monkeypatch.context() as patch:
        patch.setattr(stepping.OneByOne, "make", alone)
        made.make(5, 5)
    for step in range(6, 9):
        made.make(step, 5)
    for step in range(9):
        one_by_one.make(step)
    assert lines == [refused(5), LEFT, TOLD]
    assert made.images is None and list(made.graphs) == [(6, 1)]
    assert_same(others, expected)


@pytest.mark.parametrize("place", ["a graph's batches", "the state that a proof begins with"])
def test_where_no_memory_is_left_for_any_graph_steps_go_on_one_by_one(cuda, rng, monkeypatch, place):
    lines, full, batches = [], Mock(side_effect=MemoryError), as_source(images(rng)).batches(6)
    expected, others = small_game(cuda), small_game(cuda)
    made, one_by_one = stepping.maker(others, batches, [], lines.append), stepping.OneByOne(expected, batches)
    monkeypatch.setattr(*(stepping, "CapturedStep") if place.startswith("a graph") else (Snapshot, "take"), full)
    step = 0
    while step < 24:
        step += len(made.make(step, 5).metrics)
    for k in range(step):
        one_by_one.make(k)
    assert lines[1] == LEFT and len(lines) == 4
    assert {line for line in lines if line != LEFT} == {refused(5), refused(1), refused(1, of=4)}
    assert_same(others, expected)
    assert not made.graphs and made.images is None


def test_a_proof_that_the_device_ends_leaves_the_system_as_it_was(cuda, rng, monkeypatch):
    system, launch = small_game(cuda), CapturedStep.launch
    error = backend.module_of("cuda").cuda.runtime.CUDARuntimeError
    made = stepping.maker(system, as_source(images(rng)).batches(6), [], print)
    made.make(0, 5)
    before = {key: value.copy() for key, value in arrays(system).items()}

    def broken(graph):
        launch(graph)
        raise error(700)
    monkeypatch.setattr(CapturedStep, "launch", broken)
    with pytest.raises(error):
        made.make(8, 5)
    assert system.steps == 5
    for key, value in arrays(system).items():
        np.testing.assert_array_equal(backend.to_host(value), backend.to_host(before[key]))


@pytest.mark.parametrize("free, stays", [(10_000, True), (500, False)])
def test_data_stay_on_a_device_that_has_room_for_them(cuda, rng, monkeypatch, free, stays):
    lines = []
    monkeypatch.setattr(backend, "free_memory", lambda: free)
    made = stepping.maker(small_game(cuda), as_source(images(rng)).batches(6), [], lines.append)
    assert (made.images is not None) == stays
    assert [line.startswith("The data stay on the host") for line in lines] == [True] * (not stays)
    made.make(0, 5)


class Later(Update):
    """Acts from a step on that no recording near the beginning has seen."""

    repeats = True  # which is not so

    def after(self, network, steps, since):
        if steps > 1000:
            network.theta[...] = 0


class Silent(Game):
    """Does not say whether its steps repeat."""


class Falling(Game):
    """A metric that Python computes, of a step."""

    repeats = True

    def step(self, batch, labels=None):
        return Metrics(super().step(batch, labels).unread(), left=1 / (self.steps + 1))


@pytest.mark.parametrize("kind, updates, why", [
    (Silent, [], "the steps of Silent are not known to repeat"),
    (Game, [Later()], "they would not have the same bits"),
    (Falling, [], "a metric is a number of Python's, which would stay the same")])
def test_what_python_does_at_some_steps_only_is_noticed(cuda, rng, kind, updates, why):
    G, D = Sequential(Linear(4, 4), Tanh()), Sequential(Linear(4, 1))
    system = kind(G, D, "non-saturating", SGD(G), SGD(D), latent=Latent(4), sample_shape=(1, 2, 2), updates_g=updates)
    lines = []
    made = stepping.maker(system.initialize(0, cuda), as_source(images(rng)).batches(6), [], lines.append)
    for step in range(0, 60, 5):
        made.make(step, 5)
    assert lines == [f"Steps are made one by one, not recorded as a CUDA graph: {why}."]
    assert not getattr(made, "graphs", ())  # they would keep their memory


class Regression(System):
    """Leaves it to training to have the masks of dropout drawn."""

    cycle, sample_shape = 1, (1, 2, 2)

    def __init__(self):
        self.network = Sequential(Dropout(), Linear(4, 1))
        self.networks, self.optimizers = {"network": self.network}, {"network": SGD(self.network, lr=0.1)}

    def step(self, batch, labels=None):
        self.network.zero_grad()
        y = self.network.forward(batch.reshape(len(batch), 4))
        self.network.backward(y / len(y), "params")
        self.update("network")
        self.steps += 1
        return Metrics(loss=(y * y).mean() / 2)


def test_what_is_random_is_drawn_for_a_system_that_leaves_it_to_training(cuda, rng):
    data = images(rng)
    recorded, _, lines = trained(Regression().initialize(0, cuda), data, 60)
    assert lines == [TOLD]
    assert_same(recorded, trained(Regression().initialize(0, cuda), data, 60, [EachStep()])[0])


def test_a_system_whose_steps_differ_is_told(cuda, rng):
    growing = recipes.get("progressive").build(seed=0, device=cuda, steps=100, **recipes.get("progressive").small)
    data = rng.integers(0, 256, (12, 1, 28, 28), dtype=np.uint8)
    _, _, lines = trained(growing, data, 2)
    assert lines == ["Steps are made one by one, not recorded as a CUDA graph: the steps of GrowingGame are not known "
                     "to repeat."]


def test_tf32_is_recorded_with_the_run_and_is_for_cuda_alone(cuda, rng, tmp_path):
    data, seen = images(rng), []

    class Looks(Callback):
        each_step = False

        def on_step(self, run):
            seen.append(tf32_allowed())
    trained(small_game(cuda), data, 6, [Looks()], out=tmp_path / "run", tf32=True)
    trained(small_game(cuda), data, 9, [Looks()], out=tmp_path / "run", resume=True, batch_size=None, log_every=None,
            sample_every=None)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["tf32"] is True
    assert len(seen) == 9 and all(seen) and not tf32_allowed()
    with pytest.raises(UserError, match="tf32 is for CUDA, and the system is on the CPU: leave it out"):
        fit(small_game("cpu"), data, 2, tf32=True)
