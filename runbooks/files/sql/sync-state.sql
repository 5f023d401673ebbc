-- Bring green's copy of the workflow states up to what blue has now. Rows that did not change since
-- the last time are left alone; rows that blue no longer has go.

INSERT INTO release_5_1.workflow_states AS mine (workflow_id, phase, rounds, updated_at)
SELECT workflow_id, phase, rounds, updated_at FROM workflow_states
ON CONFLICT (workflow_id) DO UPDATE
SET phase = excluded.phase, rounds = excluded.rounds, updated_at = excluded.updated_at
WHERE mine.updated_at IS DISTINCT FROM excluded.updated_at;

DELETE FROM release_5_1.workflow_states AS mine
WHERE NOT EXISTS (SELECT FROM workflow_states AS theirs WHERE theirs.workflow_id = mine.workflow_id);

INSERT INTO release_5_1.syncs (at, workflows)
SELECT clock_timestamp(), count(*) FROM release_5_1.workflow_states;
