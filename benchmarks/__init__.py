"""Benchmarks of agentstore, relative to hand-written code on the driver, and to other packages."""
