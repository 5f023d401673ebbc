"""Tests of what is known of the production, in virtual time."""
