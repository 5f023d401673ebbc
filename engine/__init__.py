"""ce-run: declarative runbooks for production."""

VERSION = "0.1.0"
