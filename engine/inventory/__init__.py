"""The inventory: where a run works. Hosts and patterns (`hosts`), values of secrets (`secrets`)."""

from engine.inventory.hosts import COMMON_KEYS, Group, Inventory, SecretSource, split_pattern
from engine.inventory.secrets import Secrets

__all__ = ["COMMON_KEYS", "Group", "Inventory", "SecretSource", "Secrets", "split_pattern"]
