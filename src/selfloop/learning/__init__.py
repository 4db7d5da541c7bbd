"""How networks learn and draw."""
