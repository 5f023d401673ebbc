"""The simulated world and what is carried out in it."""
