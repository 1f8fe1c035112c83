"""How far and how fast gradient descent goes: stable learning rates, best rates, training times."""
