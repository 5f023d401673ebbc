"""The command line: ``ce-run``.

`main` is the way in and imports nothing but click; each command lives in a file of its own that
is imported when the command is used. What people read comes from `engine.report`; here it meets a
terminal: colours, the live view, questions, exit statuses.
"""
