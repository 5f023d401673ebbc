"""``python -m engine.cli``: the same as ``ce-run``, for where the script is not installed."""

from engine.cli.main import main

main()
