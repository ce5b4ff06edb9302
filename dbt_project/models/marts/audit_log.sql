-- Every decision of the control plane as it was chained, with the instance of its job. An altered or missing row is
-- marked, not hidden.
select
    a.sequence,
    -- text in the log, where it is hashed as it stands
    try_cast(a.happened_at as timestamp with time zone) as happened_at,
    a.actor,
    a.action,
    a.job_id,
    j.instance,
    j.family,
    a.subject,
    a.reason,
    a.policy_version,
    a.detail,
    a.previous,
    a.digest,
    a.verified
from {{ ref('stg_control_audit') }} as a
left join {{ ref('stg_control_jobs') }} as j using (job_id)
