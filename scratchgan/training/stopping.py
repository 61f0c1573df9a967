"""How a run ends before its last step."""

import signal
import threading
from contextlib import suppress


class Stopped(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP ended a run after a step, its state saved; or a second one did at once, without that.
    The message is a line that tells how to go on.

    A `KeyboardInterrupt`, so that a program which does not know of it ends as it would have. `signal` is the
    signal's number; shells expect 128 plus it as the exit status (130 for Ctrl-C).
    """

    by_all = True  # ranks: they decide so together

    def __init__(self, line, number):
        super().__init__(line)
        self.signal = number


class Diverged(ArithmeticError):
    """A number was not finite. The run stopped at the last good state; the message says so in one sentence."""

    by_all = True


class Interrupts:
    """Inside, the first Ctrl-C, SIGTERM or SIGHUP (the terminal was closed) only sets `asked`, and `announce` tells;
    a second one interrupts at once, as usual, and sets `aborted`.

    Outside the main thread signals cannot be taken, and nothing changes. A signal that the parent process chose to
    ignore (nohup, a job in the background) stays ignored.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self, announce):
        self.asked, self.aborted, self._before, self.announce = None, False, {}, announce

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception):
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number, frame):
        if self.asked is not None:
            self.aborted = True
            raise KeyboardInterrupt
        self.asked = number
        with suppress(Exception):  # wherever the signal came, such as in the midst of another line
            self.announce("Stopping soon; once more stops at once, and loses what was not saved.")
