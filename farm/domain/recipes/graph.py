"""Float32 with fewer operators; the gain is mostly in load time, since ONNX Runtime fuses while it loads too."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="graph",
    summary="Fold constants, fuse and drop operators; weights and activations keep float32.",
    formula="y = x, computed by fewer operators over fixed shapes",
    refused_when="shapes are fixed already, and nothing can be folded, fused or dropped",
    degraded_below_db=60.0,
)
