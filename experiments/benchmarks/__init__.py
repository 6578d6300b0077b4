"""Measurements, one module each; ``python -m experiments.benchmark`` runs them."""
