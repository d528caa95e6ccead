"""First weights: convolutions as Kaiming normal by outputs, batch norms as identities.

(He, Zhang, Ren, Sun: Delving Deep into Rectifiers, ICCV 2015, section 2.2.)
"""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draws all weights anew."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
