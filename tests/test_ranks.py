"""Several ranks against one: the same system, from shares of the same batches."""

import os
import re
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_ranks import apart, in_ranks

from scratchgan import backend, random, ranks, recipes
from scratchgan.cli import main
from scratchgan.data.batches import share
from scratchgan.errors import UserError
from scratchgan.gan import passes
from scratchgan.training.sharing import require_same_device, shared, told

STEPS, N = 3, 15  # 7 and 8 samples; 3 and 4 packs of 2, 1 and 2 of 5
IMAGES = np.random.default_rng(0).integers(0, 256, (STEPS * N, 1, 28, 28), np.uint8)
LABELS = np.arange(STEPS * N) % 10

# Adam makes steps of its rate of what is only rounding, such as the gradient of a critic's last bias.
SLOW = {"lr": 1e-5}
WITHOUT_NORM = {
    "mlp": ("mlp", {"ema": 3.0}),
    "n_critic, instance noise, weight decay": (
        "mlp", {"n_critic": 2, "instance_noise": 0.1, "weight_decay_d": 1e-3}),
    "goodfellow: dropout in one batch of real and fake": ("goodfellow", {"scale_gradient": 10.0}),
    "goodfellow, packs": ("goodfellow", {"pack": 2}),
    "packs, of 5": ("mlp", {"pack": 5}),
    "r1 and r2 with pairs": ("r3gan28", SLOW),
    "r1 with the loss, and dropout": ("goodfellow", {"r1": 0.5, "instance_noise": 0.1}),
    "r1 by complex step": ("mlp", {"r1": 0.5, "pack": 2}),
    "points between": ("mlp", {"objective": "wasserstein", "gp": 10.0, "n_critic": 3, **SLOW}),
    "unrolled": ("mlp", {"unroll": 2}),
    "unrolled, pairs": ("mlp", {"objective": "relativistic", "unroll": 1, **SLOW}),
    "growing": ("progressive", {}),
    "vae": ("vae", {}),
    "classifier": ("classifier", {}),
}
WITH_NORM = {
    "dcgan28": ("dcgan28", {}),
    "both in one batch": ("dcgan28", {"joint_batch": True}),
    "wgan-gp": ("wgan-gp", {"n_critic": 2, **SLOW}),
    "cgan": ("cgan", {}),
    "dcgan28, unrolled": ("dcgan28", {"unroll": 1}),
}


def trained(name, settings, each=ranks.ALONE, sync_bn=False, device="cpu"):
    """A small system of the recipe after some steps on shares of the same batches, and its metrics."""
    recipe = recipes.get(name)
    system = recipe.build(0, device, **{**recipe.small, **settings})
    for network in system.networks.values():
        network.to(dtype="float64")
    rows = []
    for step in range(STEPS):
        kept = share(N, each.rank, each.size, system.pack)
        with ranks.learning(shared(system, N, each, sync_bn)) as mine:
            metrics = system.step(IMAGES[step * N:][kept], LABELS[step * N:][kept])
            rows.append({key: float(mine.mean(np.float64(value))) for key, value in metrics.items()})
    return system, rows


def closeness(name, settings, size=2, sync_bn=False, device="cpu"):
    one, of_one = trained(name, settings, device=device)
    several = in_ranks(size, lambda each: trained(name, settings, each, sync_bn, device))
    rows = max(abs(row[key] - its[key]) / max(1, abs(row[key]))
               for row, its in zip(of_one, several[0][1], strict=True) for key in row)
    assert several[0][1] == several[1][1]
    return max(apart(one, system) for system, _ in several), rows


@pytest.mark.parametrize("case", WITHOUT_NORM)
def test_two_ranks_are_one(case):
    assert max(closeness(*WITHOUT_NORM[case])) < 1e-10


@pytest.mark.parametrize("case", WITH_NORM)
def test_two_ranks_are_one_with_sync_bn(case):
    assert max(closeness(*WITH_NORM[case], sync_bn=True)) < 1e-10


def test_unequal_shares_go_through_d_alike(monkeypatch):
    monkeypatch.setattr(passes, "PIXELS_TOGETHER", 2 * 28 * 28 * (N // 2))  # the smaller share would fit one pass
    assert max(closeness("dcgan28", {}, sync_bn=True)) < 1e-10


@pytest.mark.parametrize("name", ["goodfellow", "dcgan28"])
def test_any_number_of_ranks_on_every_device(name, device):
    assert max(closeness(name, {}, 3, sync_bn=True, device=device)) < 1e-10


def test_statistics_of_each_share_are_others():
    assert closeness("dcgan28", {})[0] > 1e-4


def test_which_rows_a_share_has():
    mine = ranks.Share(6, 4, 12)
    assert mine.rows(4) == [(6, 4)] and mine.rows(2) == [(3, 2)] and mine.rows(8) == [(12, 8)]
    assert ranks.Share(6, 4, 12, batches=2).rows(8) == [(6, 4), (18, 4)]
    with pytest.raises(ValueError, match="3 rows do not go with 4 of 12 samples"):
        mine.rows(3)


def test_a_drawing_is_the_share_of_that_of_all():
    whole = random.normal((24, 5), 1, "noise", 7)
    with ranks.learning(ranks.Share(6, 4, 12)):
        assert np.array_equal(random.normal((4, 5), 1, "noise", 7), whole[6:10])
        with ranks.passing(2):
            assert np.array_equal(random.normal((8, 5), 1, "noise", 7), whole[[*range(6, 10), *range(18, 22)]])


@pytest.mark.parametrize(("n", "ranks_", "pack", "sizes"), [
    (15, 2, 1, [7, 8]), (15, 2, 2, [6, 8]), (15, 2, 5, [5, 10]), (15, 4, 5, [0, 5, 5, 5]), (15, 1, 2, [15])])
def test_shares_are_of_whole_packs(n, ranks_, pack, sizes):
    parts = [share(n, rank, ranks_, pack) for rank in range(ranks_)]
    assert [part.stop - part.start for part in parts] == sizes
    assert parts[0].start == 0 and all(a.stop == b.start for a, b in pairwise(parts))


def test_arrays_on_devices_are_added_by_nccl_or_over_the_host(cuda):
    each = object.__new__(ranks.MpiRanks)
    each.MPI, each.nccl = SimpleNamespace(IN_PLACE=None), None

    def doubled(source, target):
        target *= 2
    each.world = SimpleNamespace(Allreduce=doubled)
    for each.nccl in (None, SimpleNamespace(all_reduce=doubled)):
        vector = backend.to_device(np.arange(3.0), cuda)
        ranks.Share(0, 1, 2, ranks=each).make_mean(vector)
        assert backend.device_of(vector) == cuda and backend.to_host(vector).tolist() == [0, 1, 2]


@pytest.mark.parametrize("other, why", [
    (("here", "0000:01:00.0", None), None), (("there", "0000:00:00.0", None), None),
    (("here", "0000:00:00.0", None), "processes share a device"),
    (("there", "0000:00:00.0", "NCCL is not installed (pip install ...)"), "NCCL is not installed (pip install ...)")])
def test_nccl_is_for_ranks_that_all_have_it_and_a_device_of_their_own(monkeypatch, other, why):
    monkeypatch.setattr(backend, "device_in_use", lambda: "0000:00:00.0")
    monkeypatch.setattr(backend, "nccl_problem", lambda: None)
    monkeypatch.setattr(backend, "nccl", lambda size, rank: "nccl")
    each = object.__new__(ranks.MpiRanks)
    each.size, each.rank, each.MPI = 2, 0, SimpleNamespace(Get_processor_name=lambda: "here")
    each.world = SimpleNamespace(allgather=lambda mine: [mine, other])
    assert each.over_the_host == why and each.nccl == (None if why else "nccl")


def test_a_missing_nccl_is_told_with_what_to_install(cuda):
    problem = backend.nccl_problem()
    assert problem is None or re.fullmatch(r"NCCL is not installed \(pip install nvidia-nccl-cu1[23]\)", problem)
    assert re.fullmatch(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.0", backend.device_in_use())


def test_a_device_is_taken_before_it_is_tried(monkeypatch):
    taken = []
    monkeypatch.setattr(backend, "devices", lambda: 2)
    monkeypatch.setattr(backend, "use_device", taken.append)
    monkeypatch.setattr(backend, "cuda_problem", lambda: pytest.fail("device 0 was tried"))
    each = object.__new__(ranks.MpiRanks)
    each.local = SimpleNamespace(rank=1)
    for device in ("cpu", "cuda", "auto"):
        each.take_device(device)
    assert taken == [1, 1]

    def fail(number):
        raise RuntimeError("busy")
    monkeypatch.setattr(backend, "use_device", fail)
    each.take_device("auto")  # whoever asks for the device is told


def test_the_command_line_lets_ranks_take_their_devices_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    order, ask = [], backend.device
    monkeypatch.setattr(type(ranks.ALONE), "take_device", lambda self, device: order.append("taken"))
    monkeypatch.setattr(backend, "device", lambda name="auto": order.append("asked") or ask(name))
    assert main(["train", "mlp", "--data", "digits", "--steps", "1", "--device", "cpu", "--quiet"]) == 0
    assert order[0] == "taken"


def test_ranks_on_different_devices_are_refused():
    others = SimpleNamespace(by_first=lambda function: "cuda")
    with pytest.raises(UserError, match="Process 0 is on cuda, this one on cpu"):
        require_same_device(recipes.get("mlp").build(), others)


@pytest.mark.parametrize("why", [None, "processes share a device"])
def test_it_is_told_that_gradients_go_over_the_host(why):
    each = SimpleNamespace(size=2, over_the_host=why)
    system = SimpleNamespace(device="cuda", couplings=lambda: [])
    lines = told(system, {"batch_size": 6, "threads": 1, "sync_bn": False, "recipe": None}, each)
    assert any(line == f"Gradients are added up over the host, which is slower than by NCCL: {why}." for line in lines
               ) == bool(why)


def test_without_cupy_or_a_driver_there_are_no_devices(monkeypatch):
    def missing(name):
        raise ImportError(name)
    monkeypatch.setattr(backend, "module_of", missing)
    assert backend.devices() == 0


def test_what_mpiexec_tells(monkeypatch):
    for name in sum(ranks.ENVIRONMENT, ()):
        monkeypatch.delenv(name, raising=False)
    assert ranks.launched() == (0, 1) and ranks.joined.__wrapped__() is ranks.ALONE
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    assert ranks.launched() == (2, 3)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UserError, match=r'has started 3 processes, but mpi4py.*pip install "scratchgan\[mpi\]"'):
        ranks.joined.__wrapped__()


def test_who_ends_all_leaves_mpiexec_first(monkeypatch, capsys):
    """Where it saw the process end before its connection it did not end the others."""
    mine, theirs = os.pipe()
    os.set_blocking(mine, False)
    monkeypatch.setenv("PMI_FD", str(theirs))
    closed = []
    monkeypatch.setattr(os, "_exit", lambda status: closed.append((status, os.read(mine, 1))))
    ranks.MpiRanks.end_all(SimpleNamespace(rank=1, size=2), UserError("so it is"))
    os.close(mine)
    assert closed == [(2, b"")]  # what a pipe gives that nobody can write to any more
    assert capsys.readouterr().err == "scratchgan: error: process 1 of 2: so it is\n"
    monkeypatch.delenv("PMI_FD")
    monkeypatch.setattr(os, "_exit", closed.append)
    ranks.MpiRanks.end_all(SimpleNamespace(rank=1, size=2), KeyboardInterrupt())
    assert closed[-1] == 1
