"""What is told of a run out of its journal: the summary at its end, ``show``, the timeline.

`words` (texts and times), `failures` and `telling` (records → lines), `phases` (which steps a
person follows), `facts` (what is known of a run) and `gather` (plan, state and records → facts),
`summary` and `showing` (facts → lines), `next_steps` (facts → commands), `overview` (a run → a
line of a list). Everything here reads; nothing writes or waits.
"""
