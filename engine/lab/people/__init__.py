"""People: the steady load of users, and the inbox where notices to the team land."""
