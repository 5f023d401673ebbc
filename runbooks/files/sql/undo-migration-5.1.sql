-- Version 5.1's own tables go; nothing that 5.0 uses is in them.
DROP SCHEMA IF EXISTS release_5_1 CASCADE;
