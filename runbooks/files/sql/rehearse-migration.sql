-- The workflow migration, carried out on a copy and thrown away: the block's own exception takes
-- back everything that it did, and only its counts stay.

DO $rehearsal$
DECLARE
    total   bigint;
    moved   bigint;
    refused bigint;
BEGIN
    SELECT count(*) INTO total FROM workflow_states;
    BEGIN
        CREATE TABLE release_5_1.rehearsed (LIKE release_5_1.workflow_states INCLUDING ALL);
        INSERT INTO release_5_1.rehearsed (workflow_id, phase, rounds, updated_at)
        SELECT workflow_id, phase, rounds, updated_at FROM workflow_states
        WHERE phase BETWEEN 0 AND {{ counts.phases - 1 }};
        GET DIAGNOSTICS moved = ROW_COUNT;
        RAISE EXCEPTION USING ERRCODE = 'CE001', MESSAGE = 'the rehearsal is over';
    EXCEPTION WHEN SQLSTATE 'CE001' THEN
        NULL;
    END;
    refused := total - moved;
    INSERT INTO release_5_1.rehearsals (at, workflows, moved, refused)
    VALUES (clock_timestamp(), total, moved, refused);
END
$rehearsal$;
