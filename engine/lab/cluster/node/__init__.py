"""The node: carries out pods as real processes."""
