"""One recipe a file, as RECIPE."""
