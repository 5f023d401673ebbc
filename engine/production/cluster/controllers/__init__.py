"""The controllers: what makes of the objects that were asked for what they describe."""
