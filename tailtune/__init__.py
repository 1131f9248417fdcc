"""The face: command line and Python API; wires Ray Tune, Optuna and storage."""

__version__ = "0.1.0"
