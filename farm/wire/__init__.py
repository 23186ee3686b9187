"""The contract that API, workers, clients and reports share. Names are fixed; additions are welcome."""
