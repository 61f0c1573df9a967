"""How the ranks of a run share its batches, and what is said of it."""

import shlex

from scratchgan import ranks
from scratchgan.data.batches import share
from scratchgan.errors import UserError
from scratchgan.layers import BatchNorm2d


def shared(system, size, each, sync_bn):
    """The `Share` that a rank has of a batch of this size."""
    if each.size == 1:
        return ranks.ALL
    part = share(size, each.rank, each.size, system.pack)
    return ranks.Share(part.start, part.stop - part.start, size // system.pack * system.pack, sync_bn, each)


def coupled_apart(system, sync_bn):
    """Names of what couples the samples of each share, and not those of the whole batch."""
    return [name for name in system.couplings() if not (sync_bn and name in ("BatchNorm1d", "BatchNorm2d"))]


def too_small(system, size, each, sync_bn):
    """Why the ranks cannot share a batch of this size, in words, or None."""
    needed = system.smallest_batch if coupled_apart(system, sync_bn) else system.pack
    if each.size == 1 or size // system.pack // each.size * system.pack >= needed:
        return None
    return f"{each.size} processes share it, and each needs {needed} or more; start fewer"


def require_shares(system, batches, each, sync_bn):
    """`UserError` if a batch of the run is too small for so many ranks."""
    for index in {0, (batches.steps_per_epoch or 1) - 1}:
        size = batches.size(index)
        if why := too_small(system, size, each, sync_bn):
            raise UserError(f"The system does not take a batch of {size} examples: {why}.")


def require_same_data(source, each):
    """`UserError` if this rank has other data than the first."""
    if each.by_first(lambda: source.sha256) != source.sha256:
        raise UserError(f"The data are not those of process 0: {source.name} has SHA-256 {source.sha256} here; give "
                        "all processes the same.")


def require_same_device(system, each):
    """`UserError` if this rank is on another device than the first: "auto" asks each for its own."""
    first = each.by_first(lambda: system.device)
    if first != system.device:
        raise UserError(f"Process 0 is on {first}, this one on {system.device}: give --device cpu, or start processes "
                        "only where CUDA can be used.")


def require_batch_norm(system, sync_bn):
    """`UserError` if statistics are to be taken together, and there are none."""
    if sync_bn and not any(isinstance(layer, BatchNorm2d) and layer.couples_samples
                           for network in system.networks.values() for _, layer in network.named_layers()):
        raise UserError("sync_bn is for networks with batch normalisation, of which the system has none: leave it out.")


def resuming(folder, each):
    """The command that goes on with the run in a folder."""
    start = f"mpiexec -n {each.size} " if each.size > 1 else ""
    return f"{start}scratchgan train --resume {shlex.quote(str(folder))}"


def told(system, config, each, folder=None):
    """Lines about the ranks that a run, in a folder or none, should begin with."""
    if each.size == 1:
        return ["sync_bn changes nothing in one process: mpiexec starts several."] if config["sync_bn"] else []
    apart = coupled_apart(system, config["sync_bn"])
    lines = [f"{each.size} processes share each batch of {config['batch_size']}, threads: {config['threads']} each."]
    if system.device == "cuda" and each.over_the_host:
        lines.append(f"Gradients are added up over the host, which is slower than by NCCL: {each.over_the_host}.")
    if apart:
        hint = "" if config["sync_bn"] else "; --sync-bn takes batch normalisation's of the whole batch"
        lines.append(f"What couples samples takes those of its process alone ({', '.join(apart)})"
                     f"{hint if any('BatchNorm' in name for name in apart) else ''}.")
    if folder and config["recipe"]:  # a process that is killed takes all others with it, before they can say so
        lines.append(f"If a process dies, all end; then go on with: {resuming(folder, each)}")
    return lines
