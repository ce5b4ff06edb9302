-- What circuits were measured to give: expectation values of estimate jobs, overlaps of kernel jobs.
select
    j.instance,
    v.job_id,
    j.envelope_digest,
    v.kind,
    v.row_index,
    v.column_index,
    v.value,
    v.standard_error,
    v.raw_value,
    v.post_processing,
    j.evidence_class,
    j.backend,
    coalesce(j.cached, false) as cached,
    j.shots,
    j.circuits,
    j.actual_cost,
    coalesce(j.noise_dominated, false) as noise_dominated,
    j.owner,
    j.ended_at
from {{ ref('stg_control_values') }} as v
inner join {{ ref('stg_control_jobs') }} as j using (job_id)
