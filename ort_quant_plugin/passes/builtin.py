"""The built-in passes, in the order in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.passes.check_opset import CheckOpset
from ort_quant_plugin.passes.fold_constants import FoldConstants
from ort_quant_plugin.passes.fold_pads import FoldPads
from ort_quant_plugin.passes.fold_reshapes import FoldReshapes
from ort_quant_plugin.passes.fold_weights import FoldWeights
from ort_quant_plugin.passes.freeze_weights import FreezeWeights
from ort_quant_plugin.passes.fuse_bn import FuseBnAdd, FuseBnMul
from ort_quant_plugin.passes.fuse_conv import FuseConvBn, FuseConvScale
from ort_quant_plugin.passes.infer_shapes import InferShapes
from ort_quant_plugin.passes.inline_functions import InlineFunctions
from ort_quant_plugin.passes.lift_constants import LiftConstants
from ort_quant_plugin.passes.naming import NameNodes
from ort_quant_plugin.passes.normalize_gemm import NormalizeGemm
from ort_quant_plugin.passes.refuse_quantized import RefuseQuantized
from ort_quant_plugin.passes.remove_identity import RemoveIdentity
from ort_quant_plugin.passes.remove_unused import RemoveUnused
from ort_quant_plugin.passes.report_bodies import ReportBodies
from ort_quant_plugin.passes.sort_nodes import SortNodes
from ort_quant_plugin.passes.unshare_weights import UnshareWeights

if TYPE_CHECKING:
    from ort_quant_plugin.passes.base import GraphPass

__all__ = ["PASSES"]

PASSES: tuple[GraphPass, ...] = (
    # PREPARE
    RefuseQuantized(),
    InlineFunctions(),
    CheckOpset(),
    SortNodes(),
    NameNodes(),
    ReportBodies(),
    FreezeWeights(),
    LiftConstants(),
    FoldWeights(),
    InferShapes(),
    FoldConstants(),
    RemoveIdentity(),
    FoldPads(),
    FoldReshapes(),
    NormalizeGemm(),
    RemoveUnused(),
    UnshareWeights(),
    # FUSE
    FuseBnMul(),
    FuseBnAdd(),
    FuseConvScale(),
    FuseConvBn(),
)
