{{ config(severity="warn", meta={"dagster": {"ref": {"name": "audit_log"}}}) }}
-- No row is missing, none was altered, each follows the one before. A warning: a broken chain cannot be mended, and must
-- be seen by those who read the log.
with chain as (
    select
        sequence,
        previous,
        verified,
        lag(sequence, 1, 0) over (order by sequence) as sequence_before,
        lag(digest, 1, repeat('0', 64)) over (order by sequence) as digest_before
    from {{ ref('audit_log') }}
)

select *
from chain
where not verified or sequence <> sequence_before + 1 or previous <> digest_before
