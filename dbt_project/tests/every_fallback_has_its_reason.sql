{{ config(meta={"dagster": {"ref": {"name": "jobs"}}}) }}
-- A job that has left its first backend says why.
select job_id, backend, hop, fallback_path
from {{ ref('jobs') }}
where hop > 0 and fallback_reason is null
