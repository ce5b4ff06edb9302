-- The newest state of every instance upstream of its answers: what is current, what is pending, what is blocked.
select
    i.instance,
    i.family,
    i.input_digest,
    e.encoding_digest,
    q.envelope_digest,
    q.job_id,
    coalesce(e.input_digest = i.input_digest, false) as encoding_is_current,
    coalesce(
        q.job_id is not null
        and s.instance is null
        and d.instance is null
        and coalesce(j.state, 'intended') not in ('failed', 'cancelled', 'timed_out', 'rejected'),
        false
    ) as pending,
    b.blocked_by
from {{ ref('stg_normalized_inputs') }} as i
left join {{ ref('stg_encoded_problems') }} as e using (instance)
left join {{ ref('stg_quantum_jobs') }} as q using (instance)
left join {{ ref('stg_control_jobs') }} as j on j.job_id = q.job_id
left join (select distinct instance, envelope_digest from {{ ref('stg_quantum_samples') }}) as s
    on s.instance = i.instance and s.envelope_digest = q.envelope_digest
left join {{ ref('stg_decisions') }} as d
    on d.instance = i.instance and d.envelope_digest = q.envelope_digest and d.input_digest = i.input_digest
left join {{ ref('int_blocked') }} as b on b.instance = i.instance
