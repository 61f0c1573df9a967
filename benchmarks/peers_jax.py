"""The step of `mlp` in JAX, compiled by XLA: one at a time, or many in a `lax.scan`, noise drawn inside."""

import jax
import jax.numpy as jnp
from jax import lax

jax.config.update("jax_default_matmul_precision", "highest")  # float32, not TF32
BETA1, BETA2, EPS, LR, SLOPE = 0.9, 0.999, 1e-8, 3e-4, 0.1


def state_of(networks):
    """(G, D) as lists of (weight, bias), each with Adam's moments: of our networks' state dicts."""
    def player(state):
        keys = [key for key in state if key.endswith("weight")]
        layers = [(jnp.asarray(state[key]), jnp.asarray(state[key.replace("weight", "bias")])) for key in keys]
        return {"layers": layers, "m": jax.tree.map(jnp.zeros_like, layers), "v": jax.tree.map(jnp.zeros_like, layers),
                "steps": jnp.zeros((), jnp.float32)}
    return {name: player(networks[name].state_dict()) for name in ("generator", "discriminator")}


def perceptron(layers, x):
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if i < len(layers) - 1:
            x = jnp.where(x > 0, x, SLOPE * x)
    return x


def adam(player, grads):
    steps = player["steps"] + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, player["m"], grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, player["v"], grads)
    one, two = 1 - BETA1**steps, 1 - BETA2**steps
    layers = jax.tree.map(lambda p, m, v: p - LR / one * m / (jnp.sqrt(v / two) + EPS), player["layers"], m, v)
    return {"layers": layers, "m": m, "v": v, "steps": steps}


def step(state, x, z):
    G, D = state["generator"], state["discriminator"]
    fake, back = jax.vjp(lambda layers: jnp.tanh(perceptron(layers, z)), G["layers"])

    def loss_d(layers):
        scores = perceptron(layers, jnp.concatenate([x, lax.stop_gradient(fake)]))
        return (jax.nn.softplus(-scores[:len(x)]).mean() + jax.nn.softplus(scores[len(x):]).mean()) / 2
    D = adam(D, jax.grad(loss_d)(D["layers"]))
    dx = jax.grad(lambda fake: jax.nn.softplus(-perceptron(D["layers"], fake)).mean())(fake)
    return {"generator": adam(G, back(dx)[0]), "discriminator": D}


@jax.jit
def steps_given(state, x, z):
    """Steps from batches x (K, N, 784) and noise z (K, N, 64)."""
    return lax.scan(lambda state, each: (step(state, *each), None), state, (x, z))[0]


@jax.jit
def steps_drawn(state, key, x):
    """The same with noise drawn inside; (state, key)."""
    def one(carry, batch):
        state, key = carry
        key, now = jax.random.split(key)
        z_dim = state["generator"]["layers"][0][0].shape[1]
        return (step(state, batch, jax.random.normal(now, (len(batch), z_dim))), key), None
    return lax.scan(one, (state, key), x)[0]


def distance(state, networks):
    """{network: relative difference of weights to ours, Euclidean}."""
    apart = {}
    for name, theirs in state_of(networks).items():
        a, b = (jnp.concatenate([jnp.ravel(p) for p in jax.tree.leaves(each["layers"])])
                for each in (theirs, state[name]))
        apart[name] = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(a))
    return apart
