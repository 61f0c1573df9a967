"""Gradient checks: hand-written backward passes against derivatives of the forward passes.

    from scratchgan.gradcheck import check_layer
    check_layer(MyLayer(), input_shape=(4, 3)).raise_if_failed()

`check_layer`, `check_loss` and `check_objective` try every entry, `check_network`, `check_game` and `check_system`
random directions and entries; `run` goes through the catalogue of all that the package has, or any `module:Name` of
yours; `table` shows what it found. The first oracle is the complex step (`scratchgan.derivatives`), exact to rounding.
"""

from scratchgan.gradcheck.catalogue import choices, run
from scratchgan.gradcheck.layers import check_layer
from scratchgan.gradcheck.losses import check_loss
from scratchgan.gradcheck.networks import check_game, check_network, check_system
from scratchgan.gradcheck.objectives import check_objective
from scratchgan.gradcheck.report import GradientCheckError, Report, Row, table

__all__ = ["GradientCheckError", "Report", "Row", "check_game", "check_layer", "check_loss", "check_network",
           "check_objective", "check_system", "choices", "run", "table"]
