-- The application's tables. Applied once, to the template that every lab's database is copied from.

CREATE TABLE users (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sessions (
    id                  text PRIMARY KEY,
    user_id             bigint NOT NULL REFERENCES users (id),
    created_by_version  text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now()
);

-- The copy of the agents' configuration that backups take; the pods read the ConfigMap.
CREATE TABLE agents (
    name        text PRIMARY KEY,
    config      jsonb NOT NULL,
    version     text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- One row per workflow; a workflow belongs to a user and passes through eight phases.
CREATE TABLE workflow_states (
    workflow_id  text PRIMARY KEY,
    phase        smallint NOT NULL CHECK (phase BETWEEN 0 AND 7),
    rounds       bigint NOT NULL DEFAULT 0,
    version      text NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX workflow_states_latest ON workflow_states (updated_at DESC);

-- What users were promised: a row is acknowledged to its writer only when it is committed.
-- (source, seq) is the writer's own number, so that an acknowledged row that is gone can be named.
CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text NOT NULL,
    seq         bigint NOT NULL,
    session_id  text NOT NULL,
    amount      integer NOT NULL,
    version     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, seq)
);

-- `writes` paused: the application answers 503 with Retry-After to every write.
CREATE TABLE switches (
    name        text PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false,
    reason      text NOT NULL DEFAULT '',
    changed_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO switches (name) VALUES ('writes');

CREATE TABLE schema_version (
    version     text PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO schema_version (version) VALUES ('5.0');

-- A past, so that a backup has something in it.
INSERT INTO users (name) SELECT 'member-' || n FROM generate_series(1, 200) AS n;
INSERT INTO orders (source, seq, session_id, amount, version, created_at)
SELECT 'history', n, 'closed-' || (n % 200), 5 + n % 95, '5.0', now() - make_interval(mins => 3000 - n)
FROM generate_series(1, 2000) AS n;
INSERT INTO workflow_states (workflow_id, phase, rounds, version)
SELECT 'member-' || n, n % 8, n / 8, '5.0' FROM generate_series(1, 200) AS n;
