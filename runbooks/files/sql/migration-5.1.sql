-- Version 5.1's own tables, beside those that 5.0 uses. Nothing that 5.0 reads or writes is
-- touched, so 5.0 can serve before, during and after it, and a rollback may leave it there.
-- Every statement may find its work done by an earlier deployment.

CREATE SCHEMA IF NOT EXISTS release_5_1;

CREATE TABLE IF NOT EXISTS release_5_1.workflow_states (
    workflow_id  text PRIMARY KEY,
    phase        smallint NOT NULL CHECK (phase BETWEEN 0 AND {{ counts.phases - 1 }}),
    rounds       bigint NOT NULL,
    updated_at   timestamptz NOT NULL
);

-- One row for each time that the state was copied from blue to green.
CREATE TABLE IF NOT EXISTS release_5_1.syncs (
    at         timestamptz PRIMARY KEY,
    workflows  bigint NOT NULL
);

-- What rehearsals of the migration found out; the rows that they made are gone again.
CREATE TABLE IF NOT EXISTS release_5_1.rehearsals (
    at         timestamptz PRIMARY KEY,
    workflows  bigint NOT NULL,
    moved      bigint NOT NULL,
    refused    bigint NOT NULL
);
