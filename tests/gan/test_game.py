"""The game's step: against a plain one, on every device, and what it must leave alone."""

import copy
import tracemalloc

import numpy as np
import pytest
from small_conditional import conditional_game
from small_games import batches, normalised_game, small_game

import scratchgan
from scratchgan import backend, gradcheck, recipes
from scratchgan.gan import Game, Latent, NonSaturating, passes
from scratchgan.layers import BatchNorm1d, Conv2d, Layer, Linear, Reshape, Sequential, Tanh
from scratchgan.optimizers import SGD, Adam


def plain_step(game, x, t):
    """The same step by the formulas, in float64, on dictionaries of weights: no layers, no in-place arithmetic."""
    def leaky(a):
        return np.where(a > 0, a, 0.1 * a)

    def d_forward(w, x):
        a = x @ w["0.weight"].T + w["0.bias"]
        return a, leaky(a) @ w["2.weight"].T + w["2.bias"]

    def d_backward(w, x, a, ds):
        dh = ds @ w["2.weight"] * np.where(a > 0, 1, 0.1)
        return {"0.weight": dh.T @ x, "0.bias": dh.sum(0), "2.weight": ds.T @ leaky(a), "2.bias": ds.sum(0)}, \
            dh @ w["0.weight"]

    def sigmoid(s):
        return 1 / (1 + np.exp(-s))

    def made(purpose):
        z = game.latent.draw(n, game.seed, purpose, step, dtype="float64")
        b = z @ g["0.weight"].T + g["0.bias"]
        return z, b, np.tanh(leaky(b) @ g["2.weight"].T + g["2.bias"])

    g, d, step, n = t["g"], t["d"], t["step"], len(x)
    t["step"] += 1
    z, b, fake = made("noise")
    grads = {}
    for images, sign in ((x.reshape(n, -1), -1), (fake, 1)):
        a, s = d_forward(d, images)
        for key, value in d_backward(d, images, a, 0.5 * sign * sigmoid(sign * s) / n)[0].items():
            grads[key] = grads.get(key, 0) + value
    before = dict(d)
    adam(d, grads, t["d_state"], step)
    if (step + 1) % game.n_critic:
        return
    judge = before if game.simultaneous else d
    if game.n_critic > 1 and not game.simultaneous:
        z, b, fake = made("noise/g")
    a, s = d_forward(judge, fake)
    dfake = d_backward(judge, fake, a, -sigmoid(-s) / n)[1] * (1 - fake**2)
    dh = dfake @ g["2.weight"] * np.where(b > 0, 1, 0.1)
    grads = {"0.weight": dh.T @ z, "0.bias": dh.sum(0), "2.weight": dfake.T @ leaky(b), "2.bias": dfake.sum(0)}
    adam(g, grads, t["g_state"], step // game.n_critic)


def adam(weights, grads, state, step, lr=1e-2):
    for key, grad in grads.items():
        m, v = state.get(key, (0, 0))
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        state[key] = m, v
        weights[key] = weights[key] - lr * (m / (1 - 0.9**(step + 1))) / (np.sqrt(v / (1 - 0.999**(step + 1))) + 1e-8)


@pytest.mark.parametrize("joint_batch", [None, False])
@pytest.mark.parametrize(("n_critic", "simultaneous"), [(1, False), (3, False), (1, True), (np.int64(2), True)])
def test_twenty_steps_equal_the_plain_formulas(n_critic, simultaneous, joint_batch, monkeypatch):
    monkeypatch.setattr(passes, "PIXELS_TOGETHER", 0)
    game = small_game(dtype="float64", n_critic=n_critic, simultaneous=simultaneous, joint_batch=joint_batch)
    state = {"g": game.generator.state_dict(), "d": game.discriminator.state_dict(), "g_state": {}, "d_state": {},
             "step": 0}
    for x in batches(dtype=np.float64):
        game.step(x)
        plain_step(game, x, state)
    for network, weights in ((game.generator, state["g"]), (game.discriminator, state["d"])):
        for key, value in network.state_dict().items():
            assert np.abs(value - weights[key]).max() < 1e-10, key


def test_first_20_mlp_steps_are_the_same_on_every_device(device):
    """At a batch of 4 and the recipe's full sizes; float32, so equal to rounding, not to the bit."""
    host, there = (scratchgan.recipes.get("mlp").build(seed=3, device=d) for d in ("cpu", device))
    assert there.device == device
    for network, other in zip(host.networks.values(), there.networks.values()):
        assert backend.to_host(other.theta).tobytes() == network.theta.tobytes()
    for x in batches(4, 20, (1, 28, 28)):
        mine, theirs = host.step(x), there.step(x)
        assert all(abs(mine[key] - theirs[key]) < 1e-5 for key in mine)
    for network, other in zip(host.networks.values(), there.networks.values()):
        assert np.abs(network.theta - backend.to_host(other.theta)).max() < 1e-5


def test_separate_passes_are_the_joint_one_where_no_layer_couples_samples():
    joint, apart = small_game(dtype="float64"), small_game(dtype="float64")
    assert joint.joint_batch
    apart.joint_batch = False
    for x in batches(dtype=np.float64):
        a, b = joint.step(x), apart.step(x)
        assert all(abs(a[key] - b[key]) < 1e-12 for key in a)
    for network, other in zip(joint.networks.values(), apart.networks.values()):
        assert np.abs(network.theta - other.theta).max() < 1e-12


def test_g_learns_through_the_fake_rows_of_a_joint_pass_alone_or_through_all(monkeypatch):
    rows, all_of_them = (small_game(dtype="float64", simultaneous=True) for _ in range(2))
    monkeypatch.setattr(all_of_them.discriminator[0], "keeps_rows", False)
    for x in batches(dtype=np.float64):
        rows.step(x), all_of_them.step(x)
        for network, other in zip(rows.networks.values(), all_of_them.networks.values()):
            assert np.abs(network.grad - other.grad).max() < 1e-13


@pytest.mark.parametrize("most", [0, 1 << 17])
@pytest.mark.parametrize(("joint_batch", "seen"), [(None, ("real", "fake", "fake")), (True, ("both", "fake"))])
def test_running_statistics_of_d_follow_the_batches_that_it_sees(device, joint_batch, seen, most, monkeypatch):
    monkeypatch.setattr(passes, "PIXELS_TOGETHER", most)
    game = normalised_game(device, joint_batch=joint_batch)
    assert game.joint_batch == (joint_batch is True)
    x = batches(dtype=np.float64)[0]
    z = game.latent.draw(6, 0, "noise", dtype="float64", device=device)
    fake = backend.to_host(game.generator.twin().forward(z))
    batch = {"real": x.reshape(6, 4), "fake": fake, "both": np.concatenate([x.reshape(6, 4), fake])}
    game.step(x)
    mean, var = np.zeros(4), np.ones(4)
    for name in seen:
        mean, var = 0.9 * mean + 0.1 * batch[name].mean(0), 0.9 * var + 0.1 * batch[name].var(0, ddof=1)
    state = game.discriminator.state_dict()
    assert np.abs(state["0.running_mean"] - mean).max() < 1e-14
    assert np.abs(state["0.running_var"] - var).max() < 1e-14
    assert state["0.num_batches_tracked"] == len(seen)
    assert game.generator.state_dict()["1.num_batches_tracked"] == 1


def trained(game, passes):
    """Its weights and D's statistics after some steps, in which D is seen to make so many passes a step."""
    forward, seen = game.discriminator.forward, []
    game.discriminator.forward = lambda x: seen.append(len(x)) or forward(x)
    for network, optimizer in ((game.generator, "optimizer_g"), (game.discriminator, "optimizer_d")):
        setattr(game, optimizer, SGD(network, 0.1))
    for x in batches(dtype=np.float64):
        seen.clear()
        game.step(x)
        assert len(seen) == passes
    return {**game.generator.state_dict(), **{f"d.{key}": v for key, v in game.discriminator.state_dict().items()}}


def test_real_and_fake_kept_apart_in_one_pass_give_what_two_passes_give(monkeypatch):
    one = trained(normalised_game(), passes=2)
    monkeypatch.setattr(passes, "PIXELS_TOGETHER", 0)
    two = trained(normalised_game(), passes=3)
    for key, value in two.items():
        assert np.abs(one[key] - value).max() < 1e-12, key


def test_a_layer_with_state_of_its_own_sees_real_and_fake_in_turn():
    class Counting(Layer):
        def __init__(self):
            super().__init__()
            self.buffers["passes"] = np.zeros((), np.int64)

        def forward(self, x):
            self.buffers["passes"] += 1
            return x

        def backward(self, dy, wrt="all"):
            return None if wrt == "params" else dy
    D = Sequential(Linear(4, 6), BatchNorm1d(6), Counting(), Linear(6, 1)).initialize(0, "d").to(dtype="float64")
    game = normalised_game()
    game = Game(game.generator, D, NonSaturating(), SGD(game.generator, 0), SGD(D, 0), latent=Latent(3),
                sample_shape=(1, 2, 2))
    game.step(batches(dtype=np.float64)[0])
    assert D.state_dict()["2.passes"] == 3


def test_noise_takes_the_shape_that_the_generator_wants():
    flat, shaped = small_game(), small_game()
    shaped.latent = Latent(3, z_shape=(1, 3))
    seen = []
    forward = shaped.generator.forward
    shaped.generator.forward = lambda z: seen.append(z.shape) or forward(z.reshape(-1, 3))
    x = batches()[0]
    assert dict(flat.step(x)) == dict(shaped.step(x)) and seen == [(6, 1, 3)]


def test_same_seed_same_bits_another_seed_other_numbers():
    def trained(seed):
        game = small_game(seed=seed)
        for x in batches():
            game.step(x)
        return game.generator.theta.tobytes() + game.discriminator.theta.tobytes()

    assert trained(0) == trained(0)
    assert trained(0) != trained(1)


def test_metrics_are_the_losses_of_the_step_and_are_read_lazily():
    game = small_game(dtype="float64")
    x = batches(dtype=np.float64)[0]
    before = small_game(dtype="float64")
    metrics = game.step(x)
    assert list(metrics) == ["loss_d", "d_real", "d_fake", "loss_g", "d_fake_after"]
    fake = before.generator(before.latent.draw(6, 0, "noise", 0, dtype="float64"))
    real_score, fake_score = before.discriminator(x.reshape(6, 4)), before.discriminator(fake)
    after = game.discriminator(fake)
    assert metrics["loss_d"] == pytest.approx(0.5 * (np.log1p(np.exp(-real_score)).mean()
                                                     + np.log1p(np.exp(fake_score)).mean()), abs=1e-14)
    assert metrics["loss_g"] == pytest.approx(np.log1p(np.exp(-after)).mean(), abs=1e-14)
    expected = [(1 / (1 + np.exp(-s))).mean() for s in (real_score, fake_score, after)]
    assert [metrics[k] for k in ("d_real", "d_fake", "d_fake_after")] == pytest.approx(expected, abs=1e-14)
    first = dict(metrics)
    for x in batches(dtype=np.float64)[1:4]:
        game.step(x)
    assert dict(metrics) == first  # later steps reuse the buffers, but not these scores
    with pytest.raises(TypeError):
        metrics["loss_d"] = 0


def test_a_step_leaves_the_batch_alone_and_takes_any_batch_size():
    game = small_game()
    for n in (6, 2, 1, 9):
        x = batches(n)[0]
        kept = x.copy()
        game.step(x)
        assert x.tobytes() == kept.tobytes()


def test_gradients_of_the_step_stay_readable():
    """`fit` reads gradient norms after a step: D's is the one of D's update, not of G's pass through D."""
    game = small_game(dtype="float64")
    before = game.discriminator.theta.copy()
    game.step(batches(dtype=np.float64)[0])
    grad = game.discriminator.grad
    moved = before - game.discriminator.theta
    assert np.abs(moved - 1e-2 * grad / (np.abs(grad) + 1e-8)).max() < 1e-12  # Adam's first step


def test_memory_stays_flat():
    game = small_game()
    data = batches()
    for x in data:
        game.step(x)
    tracemalloc.start()
    try:
        growth = []
        while len(growth) < 10:  # the least: the pool of memory and threads of other tests may still come to rest
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(20):
                for x in data:
                    game.step(x)
            growth.append(tracemalloc.get_traced_memory()[0] - before)
            if growth[-1] < 2048:
                break
        assert min(growth) < 2048
    finally:
        tracemalloc.stop()


def test_the_mlp_recipe_has_the_published_sizes():
    game = scratchgan.recipes.get("mlp").build(seed=0)
    shapes = {key: value.shape for key, value in game.generator.state_dict().items()}
    assert shapes == {"0.weight": (256, 64), "0.bias": (256,), "2.weight": (512, 256), "2.bias": (512,),
                      "4.weight": (784, 512), "4.bias": (784,)}
    shapes = {key: value.shape for key, value in game.discriminator.state_dict().items()}
    assert shapes == {"0.weight": (256, 784), "0.bias": (256,), "2.weight": (128, 256), "2.bias": (128,),
                      "4.weight": (1, 128), "4.bias": (1,)}
    assert recipes.get("mlp").batch_size == 64 and recipes.get("mlp").epochs == 101
    assert all(o.lr == 3e-4 and o.betas == (0.9, 0.999) and o.eps == 1e-8 for o in game.optimizers.values())
    assert game.sample(2).shape == (2, 1, 28, 28)


# -- fewer steps of G, labels, maps of scores, bytes ---------------------------------------------------------------


def test_g_waits_for_its_turn_and_its_metrics_with_it():
    game = small_game(n_critic=3)
    for i, x in enumerate(batches(steps=6)):
        before = game.generator.theta.copy()
        metrics = game.step(x)
        learns = i % 3 == 2
        assert np.array_equal(before, game.generator.theta) != learns
        assert list(metrics) == ["loss_d", "d_real", "d_fake"] + ["loss_g", "d_fake_after"] * learns
    assert game.optimizer_d.steps == 6 and game.optimizer_g.steps == 2


def test_a_simultaneous_step_has_no_scores_after_the_update():
    assert list(small_game(simultaneous=True).step(batches()[0])) == ["loss_d", "d_real", "d_fake", "loss_g"]


def test_a_map_of_scores_is_its_mean():
    """A D that gives the same score at every place of a map learns what one with that score learns."""
    class Everywhere(Layer):
        """(N, 1) -> (N, 1, 3, 2)."""

        def forward(self, x):
            return np.tile(x.reshape(-1, 1, 1, 1), (1, 1, 3, 2))

        def backward(self, dy, wrt="all"):
            return None if wrt == "params" else dy.sum(axis=(2, 3))

    for joint_batch in (None, False):
        one, many = (small_game(dtype="float64", joint_batch=joint_batch) for _ in range(2))
        D = Sequential(copy.deepcopy(one.discriminator), Everywhere())
        many = Game(many.generator, D, NonSaturating(0.5), many.optimizer_g, Adam(D, 1e-2), latent=Latent(3),
                    sample_shape=(1, 2, 2), joint_batch=joint_batch)
        for x in batches(dtype=np.float64, steps=5):
            a, b = one.step(x), many.step(x)
            assert all(abs(a[key] - b[key]) < 1e-13 for key in a)
        for network, other in zip(one.networks.values(), many.networks.values(), strict=True):
            assert np.abs(network.theta - other.theta).max() < 1e-13


def test_patches_train():
    G = Sequential(Linear(4, 64), Tanh(), Reshape(1, 8, 8)).initialize(0, "g")
    D = Sequential(Conv2d(1, 1, 4, stride=4)).initialize(0, "d")
    game = Game(G, D, "least-squares", Adam(G), Adam(D), latent=Latent(4), sample_shape=(1, 8, 8))
    metrics = game.step(batches(5, 1, (1, 8, 8))[0])
    assert all(np.isfinite(value) for value in metrics.values())


def test_bytes_are_scaled_to_the_value_range(device):
    bytes_ = np.random.default_rng(0).integers(0, 256, (6, 1, 2, 2), np.uint8)
    for low, high in ((-1, 1), (0, 1), (-3, 2)):
        floats = bytes_.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
        one, other = (small_game(device, value_range=(low, high)) for _ in range(2))
        one.step(backend.to_device(bytes_, device)), other.step(floats)
        for network, same in zip(one.networks.values(), other.networks.values(), strict=True):
            assert np.array_equal(backend.to_host(network.theta), backend.to_host(same.theta))


@pytest.mark.parametrize("settings", [{}, {"joint_batch": False}, {"simultaneous": True}, {"n_critic": 2}],
                         ids=lambda settings: next(iter(settings), "plain"))
def test_labels_go_to_both_networks(settings, monkeypatch):
    monkeypatch.setattr(passes, "PIXELS_TOGETHER", 0)
    game, labels = conditional_game(**settings), np.array([0, 1, 2, 2, 1, 0])
    gradcheck.check_game(game, batches()[0], labels).raise_if_failed()
    z = game.latent.draw(4, 0, "test")
    ones, twos = game.generate(z, 1), game.generate(z, np.full(4, 2))
    assert (ones != twos).any(axis=1).all()
    assert np.array_equal(game.generate(z, [1, 2, 1, 2])[::2], ones[::2])
    assert np.array_equal(game.generate(z), game.generate(z, [0, 1, 2, 0]))
    for wrong in ([0, 1], [0.5] * 4):
        with pytest.raises(ValueError, match="a conditional game needs labels, one whole number for each of 4"):
            game.generate(z, wrong)
    for wrong in (3, [-1, 0, 0, 0]):
        with pytest.raises(ValueError, match="labels must be from 0 to 2, got "):
            game.generate(z, wrong)
    with pytest.raises(ValueError, match="needs labels"):
        game.step(batches()[0])


def test_labels_of_the_data_do_not_matter_elsewhere():
    one, other = small_game(), small_game()
    one.step(batches()[0], np.arange(6)), other.step(batches()[0])
    assert np.array_equal(one.generator.theta, other.generator.theta)


def test_dropout_draws_apart_in_both_networks(monkeypatch):
    from scratchgan.layers import Dropout
    seen = []
    draw = Dropout.drawn
    monkeypatch.setattr(Dropout, "drawn", lambda self, x: seen.append(draw(self, x)) or seen[-1])
    G, D = Sequential(Dropout(0.5), Linear(16, 16)), Sequential(Dropout(0.5), Linear(16, 1))
    game = Game(G, D, NonSaturating(), Adam(G), Adam(D), latent=Latent(16), sample_shape=(1, 4, 4))
    for x in batches(8, 2, (1, 4, 4)):
        game.step(x)
    masks = [kept.tobytes() for kept, _ in seen if kept.shape == (8, 16)]  # G's, and D's in G's turn
    assert len(masks) == 4 and len(set(masks)) == 4
