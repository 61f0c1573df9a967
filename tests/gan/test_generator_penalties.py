"""Terms of G's loss against samples that are all alike, and packs."""

import copy

import numpy as np
import pytest
from test_parts import X, make, networks

from scratchgan import backend, gradcheck
from scratchgan.gan.augmentation import InstanceNoise, Pack
from scratchgan.gan.generator_penalties import Diversity, PullAway
from scratchgan.layers import AutoencoderEnergy, Dropout, LeakyReLU, Linear, Sequential, Tanh


def autoencoder():
    return AutoencoderEnergy(Sequential(Linear(4, 3), Tanh()), Sequential(Linear(3, 4))).initialize(0, "d")


@pytest.mark.parametrize("parts", [{}, {"simultaneous": True}, {"joint_batch": False},
                                   {"augmentation": (InstanceNoise(0.1),), "n_critic": 2}])
def test_gradients_are_those_of_the_loss(parts):
    game = make(penalties_g=(Diversity(0.3),), **parts)
    gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()
    game = make(objective="energy-margin", D=autoencoder(), penalties_g=(PullAway(0.3), Diversity(0.1)), **parts)
    gradcheck.check_game(game, X[0], directions=2, entries=5).raise_if_failed()


def test_values_by_the_definitions(device):
    rng = np.random.default_rng(0)
    fake, z = rng.standard_normal((7, 2, 3)), rng.standard_normal((7, 5))
    P, dfake = Diversity(0.5).gradient(*(backend.to_device(a, device) for a in (fake, z)))
    ratio = np.mean([abs(fake[i] - fake[i + 3]) for i in range(3)]) / np.mean([abs(z[i] - z[i + 3]) for i in range(3)])
    assert float(P) == pytest.approx(0.5 / (ratio + 1e-5)) and not backend.to_host(dfake)[6].any()
    D = autoencoder().to(device, "float64")
    x = backend.to_device(rng.standard_normal((6, 4)), device)
    D.forward(x)
    codes = backend.to_host(D.codes)
    u = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    pairs = [(u[i] @ u[j]) ** 2 for i in range(6) for j in range(6) if i != j]
    assert float(PullAway(2.0).gradient_of_seen(D, joint=False)[0]) == pytest.approx(2 * np.mean(pairs))
    part = u[3:]
    pairs = [(part[i] @ part[j]) ** 2 for i in range(3) for j in range(3) if i != j]
    P, dx = PullAway(2.0).gradient_of_seen(D, joint=True)
    assert float(P) == pytest.approx(2 * np.mean(pairs)) and dx.shape == (3, 4)


def test_samples_that_are_all_the_same_give_a_finite_gradient():
    P, dfake = Diversity(1.0).gradient(np.zeros((4, 3)), np.random.default_rng(0).standard_normal((4, 2)))
    assert np.isfinite(P) and not dfake.any()


def test_a_code_of_zeros_is_left_alone():
    D = AutoencoderEnergy(Sequential(Linear(4, 3), LeakyReLU(0.0)), Linear(3, 4)).initialize(0, "d")
    D.encoder.layers["0"].params["bias"][...] = -100
    D.forward(X[0])
    P, dx = PullAway(1.0).gradient_of_seen(D, joint=False)
    assert P == 0 and not dx.any()


def test_an_empty_batch_has_no_energies():
    D = autoencoder()
    E = D.forward(np.zeros((0, 4), np.float32))
    assert E.shape == (0,) and D.backward(E).shape == (0, 4)


def test_what_does_not_fit_is_refused():
    G, D = networks()
    with pytest.raises(ValueError, match="compares samples as if they had one label"):
        make(G=G, D=D, penalties_g=(Diversity(0.1),), classes=3)
    with pytest.raises(ValueError, match="the pull-away term needs a discriminator with an encoder"):
        make(penalties_g=(PullAway(0.1),))
    for part in (Diversity, PullAway):
        with pytest.raises(ValueError, match="weight must be a finite number >= 0, not -1"):
            part(-1)
    with pytest.raises(ValueError, match="it needs a batch of 2 or more"):
        make(penalties_g=(Diversity(0.1),)).step(X[0][:1])


# -- packs -----------------------------------------------------------------------------------------------------------


def test_packs_join_consecutive_samples(device):
    pack = Pack(2)
    assert pack.seen_shape((3, 4, 4)) == (6, 4, 4)
    x = backend.to_device(np.arange(5 * 3 * 2, dtype=np.float32).reshape(5, 3, 2), device)
    y = backend.to_host(pack.forward(x))
    x = backend.to_host(x)
    assert y.shape == (2, 6, 2) and np.array_equal(y[1], np.concatenate([x[2], x[3]]))
    dx = backend.to_host(pack.backward(backend.to_device(y, device)))
    assert np.array_equal(dx[:4], x[:4]) and not dx[4].any()
    with pytest.raises(ValueError, match="N >= 2, as many as a pack has"):
        pack.forward(backend.to_device(x[:1], device))
    with pytest.raises(ValueError, match="m must be a whole number"):
        Pack(0)


@pytest.mark.parametrize("objective", ["non-saturating", "relativistic"])
@pytest.mark.parametrize("parts", [{}, {"simultaneous": True}, {"joint_batch": False}])
def test_a_game_of_packs(objective, parts):
    gradcheck.check_layer(Pack(3), input_shape=(6, 2, 2), batch_of_one=False).raise_if_failed()
    D = Sequential(Linear(8, 6), LeakyReLU(0.1), Dropout(0.2), Linear(6, 1)).initialize(0, "d")
    game = make(objective=objective, D=D, augmentation=(Pack(2), InstanceNoise(0.1)), **copy.copy(parts))
    gradcheck.check_game(game, X[0][:5], directions=2, entries=5).raise_if_failed()


def test_packs_have_no_labels():
    G, D = networks(inputs=8)
    with pytest.raises(ValueError, match="joins samples, but in a conditional game each has a label of its own"):
        make(G=G, D=D, augmentation=(Pack(2),), classes=3)
