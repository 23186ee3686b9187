"""What the quality bench starts in other environments: one process of a contender, Olive's passes, a recipe by hand."""
