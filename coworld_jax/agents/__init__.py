"""Agents: what one agent is, how it learns and acts. An agent knows no domain but its own."""
