"""The balancers: a real HAProxy, and what programs it from the cluster's objects."""
