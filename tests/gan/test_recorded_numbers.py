"""What depends on the step comes from `recording`: in a recording it may lie on the device."""

from types import SimpleNamespace

import numpy as np
import pytest

from scratchgan import backend, recipes, recording

GAMES = [("mlp", {"instance_noise": 0.1, "instance_noise_steps": 9, "r1": 1.0, "r2": 0.5, "schedule": "linear",
                  "gamma_final": 0.1, "decay_steps": 8, "ema": 20.0}),
         ("goodfellow", {"instance_noise": 0.1}), ("wgan", {"ema": 10.0}), ("wgan-gp", {})]


@pytest.mark.parametrize("name, settings", GAMES)
def test_numbers_of_the_step_may_be_arrays_on_the_device(cuda, name, settings):
    import cupy

    def trained(steps_as_recorded):
        recipe = recipes.get(name)
        game = recipe.build(seed=0, device=cuda, **{**recipe.small, **settings})
        low, high = game.value_range
        batch = np.random.default_rng(0).uniform(low, high, (4, *game.sample_shape)).astype("float32")
        token = recording._current.set(None)
        for step in range(4):
            if steps_as_recorded and step == 1:
                recording._current.set(SimpleNamespace(
                    counter=lambda step: (cupy.full(1, step + 7, "uint64"), -7),
                    values=lambda function, step, dtype, of: tuple(cupy.array(x, dtype) for x in function(step))))
            game.step(batch)
        recording._current.reset(token)
        return {f"{of}.{key}": backend.to_host(value) for of, network in game.networks.items()
                for key, value in network.state_dict().items()}
    expected = trained(False)
    for key, value in trained(True).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-6, err_msg=key)
