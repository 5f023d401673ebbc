"""What is known of the production, whoever plays it: the lab with real servers, the simulation.

Names and numbers, the objects in the cluster and what its controllers make of them, who is sent
requests, what faults do, and what a metric means. Nothing here reads a clock, opens a connection
or starts a process: time is passed in, and so both worlds mean the same.
"""
