"""The demo network in PyTorch: small, and with every kind of layer the quantizer treats differently."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["DigitsNet"]


def _normalized(name: str, conv: nn.Conv2d) -> dict[str, nn.Module]:
    return {f"{name}_conv": conv, f"{name}_bn": nn.BatchNorm2d(conv.out_channels)}


class DigitsNet(nn.Module):
    """A depthwise-separable block, a strided convolution, a residual block and a linear head.

    Shapes:
        image (N, 1, 8, 8) float32 in [0, 1] → logits (N, 10) float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                **_normalized("stem", nn.Conv2d(1, 16, 3, padding=1, bias=False)),
                **_normalized("depthwise", nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)),
                **_normalized("pointwise", nn.Conv2d(16, 32, 1, bias=False)),
                **_normalized("down", nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)),
                **_normalized("residual1", nn.Conv2d(32, 32, 3, padding=1, bias=False)),
                **_normalized("residual2", nn.Conv2d(32, 32, 3, padding=1, bias=False)),
                "head_conv": nn.Conv2d(32, 64, 1),
                "classifier": nn.Linear(64, 10),
            }
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; ``export.py`` writes the same graph, node by node."""
        layer = self.layers
        relu, relu6 = nn.functional.relu, nn.functional.relu6
        x = relu(layer["stem_bn"](layer["stem_conv"](image)))
        x = relu6(layer["depthwise_bn"](layer["depthwise_conv"](x)))
        x = relu(layer["pointwise_bn"](layer["pointwise_conv"](x)))
        x = relu(layer["down_bn"](layer["down_conv"](x)))
        y = relu(layer["residual1_bn"](layer["residual1_conv"](x)))
        y = layer["residual2_bn"](layer["residual2_conv"](y))
        x = nn.functional.max_pool2d(relu(x + y), 2)
        x = relu(layer["head_conv"](x))
        x = nn.functional.avg_pool2d(x, 2)
        return layer["classifier"](x.flatten(1))
