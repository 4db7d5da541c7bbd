"""The theory checked against simulations."""
