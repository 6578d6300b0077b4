"""What is measured and drawn after training: value bias, returns, rollouts, predictions."""
