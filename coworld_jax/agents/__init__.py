"""Agents: what one learner consists of, and its updates."""
