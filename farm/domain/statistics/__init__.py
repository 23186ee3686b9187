"""Statistics of measured times, as pure functions of the samples: quantiles, intervals, stability, noise, changes.

The unit of repetition is the process: samples of one process share its memory layout and its clocks, so intervals and
comparisons rest on the spread between processes, not on the number of calls.
"""
