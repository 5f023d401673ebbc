"""A runbook as a picture: text, Mermaid, Graphviz, SVG.

`times` (how long steps may take, and the critical path), `outline` (what every format shows of a
step), `text`, `mermaid`, `dot`; for SVG `layout` (where boxes stand) and `svg` (how they look).
"""
