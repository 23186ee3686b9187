"""The demo: three real models of three kinds, through the whole farm."""
