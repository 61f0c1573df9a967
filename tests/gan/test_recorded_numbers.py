"""What depends on the step comes from `recording`: in a recording it may lie on the device."""

import numpy as np
import pytest

from scratchgan import backend, recipes, recording

GAMES = [("mlp", {"instance_noise": 0.1, "instance_noise_steps": 9, "r1": 1.0, "r2": 0.5, "schedule": "linear",
                  "gamma_final": 0.1, "decay_steps": 8, "ema": 20.0}),
         ("goodfellow", {"instance_noise": 0.1}), ("wgan", {"ema": 10.0, "n_critic": 1}), ("wgan-gp", {"n_critic": 1})]


class Numbers:
    """Of one step after the other, in memory that stays: as few lines as a recording can have."""

    def __init__(self, xp):
        self.xp, self.step, self.counters, self.asked, self.seen = xp, 0, xp.zeros(1, "uint64"), [], 0

    def begin(self, step):
        self.step, self.seen = step, 0
        self.counters.fill(step)
        for function, offset, arrays in self.asked:
            for array, number in zip(arrays, function(step + offset), strict=True):
                array.fill(number)

    def counter(self, step):
        return self.counters, step - self.step

    def values(self, function, step, dtype, of):
        if self.seen == len(self.asked):
            self.asked.append((function, step - self.step, tuple(self.xp.array(x, dtype) for x in function(step))))
        self.seen += 1
        return self.asked[self.seen - 1][2]


@pytest.mark.parametrize("name, settings", GAMES)
def test_a_step_on_numbers_that_lie_on_the_device_can_be_recorded(cuda, name, settings):
    import cupy
    recipe = recipes.get(name)
    def built():
        return recipe.build(seed=0, device=cuda, **{**recipe.small, **settings})
    eager, recorded = built(), built()
    low, high = eager.value_range
    batch = cupy.asarray(np.random.default_rng(0).uniform(low, high, (4, *eager.sample_shape)).astype("float32"))
    for _ in range(5):
        eager.step(batch)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        recorded.step(batch)
        numbers = Numbers(cupy)
        token = recording._current.set(numbers)
        numbers.begin(1)
        recorded.step(batch)                                     # makes what is kept
        numbers.begin(2)
        stream.begin_capture()
        recorded.step(batch)
        graph = stream.end_capture()
        recording._current.reset(token)
        for step in (2, 3, 4):
            numbers.begin(step)
            graph.launch()
        stream.synchronize()
    for of, network in eager.networks.items():
        got = recorded.networks[of].state_dict()
        for key, value in network.state_dict().items():
            np.testing.assert_allclose(backend.to_host(got[key]), backend.to_host(value), rtol=1e-4, atol=1e-6,
                                       err_msg=f"{of}.{key}")
