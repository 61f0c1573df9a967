"""`Part`: what a game can be made of."""


class Part:
    """The base of augmentations, penalties and whatever else settings can ask for: see `scratchgan.gan.assemble`.

    kind     the argument of `Game` that it is for; "updates" for updates_d and updates_g
    repeats  of a part of one's own: whether it does the same in every step, but for numbers that `random` draws or
             `recording.values` gives, so that steps with it can be recorded on CUDA
    """

    SETTINGS = ()
    kind = None
    repeats = False

    @classmethod
    def of(cls, chosen, network=None):
        """The part for these settings, a namespace with the names in SETTINGS; None where they ask for none.

        `network` is the player whose updates it follows.
        """
        return None
