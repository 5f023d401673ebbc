"""The monitoring: what is counted, kept and answered as Prometheus answers."""
