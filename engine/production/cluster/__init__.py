"""The cluster without a network: objects, what may be done to them, and the controllers.

`cluster.py` puts the parts together. Its time, its names and its randomness come from outside
(`timeline.py`, `identities.py`), and so do the pods' processes (`runtime.py`): on real time and
real processes it is the lab's cluster, on virtual time it runs hours in milliseconds and does the
same twice.
"""
