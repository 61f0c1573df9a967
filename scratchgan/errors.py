"""The one exception for a user's mistake."""


class UserError(Exception):
    """Something the user can put right, told in one sentence: what was wrong and what to do.

    The command line prints the sentence and exits with status 2; a caller from Python may catch it.
    Layers, losses and optimizers raise `ValueError` and `TypeError` instead, as Python code does.
    """
