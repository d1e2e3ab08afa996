"""The harness behind `bench/run`: starts subjects, loads them in interleaved rounds and reports ratios."""
