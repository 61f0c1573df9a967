"""What a run tells while it goes on."""


class Callback:
    """The base of progress bars, picture grids and the like: override what is needed.

    `run` is a `Run`: `.system`, `.batches`, `.folder` (a `RunFolder`, or None if nothing is written), `.step`
    (steps done), `.steps` (when the run will be over), `.epoch` (epochs done), `.config`, `.history` (the rows so far),
    `.evaluations` (those of the samples, if these are measured), `.finished`, and `.announce(line)`, which prints a
    line; a progress bar may put its own function there.

    A callback must change neither the system nor the run. `system.sample` does not: its noise has a purpose of its own.

    each_step   whether `on_step` must see the system after each step. On CUDA steps are made several at a time, which
                is faster by far: if nobody must, `on_step` is called for each, but after the last of them, for which
                alone `run.current` is True
    """

    each_step = True

    def on_start(self, run):
        """Before the first step; `run.step` is above 0 where a run is resumed."""

    def on_step(self, run):
        """After each step. Keep it cheap: on a device, reading a number waits for it."""

    def on_log(self, run, row):
        """After an interval: `row` is the new row of metrics.csv, {"step": 600, "loss_d": 0.61, ...}."""

    def on_evaluation(self, run, row):
        """After samples were measured: `row` is the new line of evaluations.jsonl, {"step": 600, "frechet": 3, ...}."""

    def on_checkpoint(self, run, path):
        """After a checkpoint was written to the folder `path`."""

    def on_end(self, run):
        """When the run is over, whether it is finished (`run.finished`), was stopped, or failed; not after a second
        Ctrl-C."""
