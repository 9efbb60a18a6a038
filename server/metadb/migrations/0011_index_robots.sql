{{without_transaction}}
-- +goose Up
-- Robots by when they were made, and by when they were used last.
{{drop_index}} robot_created;
{{create_index}} robot_created ON robot (project_id, id);
{{drop_index}} robot_used;
{{create_index}} robot_used ON robot (project_id, last_used_at, id);
