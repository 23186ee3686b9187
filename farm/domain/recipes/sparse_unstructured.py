"""A smaller download, nothing else."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="sparse-unstructured",
    summary="Set the smallest half of the weights of each layer to zero.",
    formula="w = 0 where |w| is under the median of its layer",
    refused_when="the model has no convolution or matrix product",
    degraded_below_db=20.0,
    note="It brings no speed on CPUs: only the compressed file is smaller.",
)
