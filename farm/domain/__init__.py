"""What is decided, without I/O: values and pure functions, standard library only."""
