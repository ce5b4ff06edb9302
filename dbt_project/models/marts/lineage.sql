-- From the file to the decision, one row per answered instance. Upstream columns are null where something newer has
-- replaced what the decision was made from.
with runs as (
    select instance, run_id, code_version
    from {{ ref('stg_control_materializations') }}
    where asset = 'decisions' and event = 'materialization' and instance is not null
    qualify row_number() over (partition by instance order by happened_at desc) = 1
),

-- all jobs behind an answer: an iterative family sends one a round
behind as (
    select
        answered.instance,
        answered.envelope_digest,
        min(j.success_probability) as success_probability,
        bool_or(coalesce(j.noise_dominated, false)) as noise_dominated,
        bool_or(answered.cached or coalesce(j.cached, false)) as cached,
        string_agg(
            distinct coalesce(
                {{ fallback_reason('j.fallback_path') }},
                -- somebody stopped it, and the heuristic answered as a job of its own
                case when j.state in ('rejected', 'cancelled') then j.backend || ' to heuristic: ' || j.error end
            ),
            '; '
        ) as fallback_reason
    from (
        select instance, envelope_digest, job_id, false as cached from {{ ref('stg_quantum_jobs') }}
        union all
        select instance, envelope_digest, job_id, cached from {{ ref('stg_quantum_samples') }} group by all
    ) as answered
    left join {{ ref('stg_control_jobs') }} as j using (job_id)
    group by all
)

select
    d.instance,
    d.family,
    n.source_file,
    n.member,
    n.source_digest,
    d.input_digest,
    e.encoding,
    e.encoding_version,
    e.encoding_digest,
    d.envelope_digest,
    coalesce(s.job_id, q.job_id) as job_id,
    coalesce(j.backend, s.backend) as backend,
    coalesce(j.evidence_class, s.evidence_class) as evidence_class,
    j.sdk_versions,
    j.parameters,
    j.calibration,
    coalesce(j.shots, s.shots) as shots,
    j.execute_seconds,
    d.decision,
    d.source,
    d.solver_or_backend,
    d.data_version as decision_version,
    r.code_version,
    r.run_id,
    d.correlation_id,
    d.environment,
    d.owner,
    d.decided_at,
    d.is_current,
    j.policy_version,
    j.attempts,
    j.hop,
    j.fallback_path,
    b.fallback_reason,
    coalesce(b.cached, false) as cached,
    j.backend_version,
    try_cast(json_extract_string(j.calibration, '$.time') as timestamp with time zone) as calibrated_at,
    b.success_probability,
    coalesce(b.noise_dominated, false) as noise_dominated,
    j.replay_of
from {{ ref('decisions') }} as d
left join {{ ref('stg_normalized_inputs') }} as n on n.instance = d.instance and n.input_digest = d.input_digest
left join {{ ref('stg_encoded_problems') }} as e on e.instance = d.instance and e.input_digest = d.input_digest
left join {{ ref('stg_quantum_jobs') }} as q on q.instance = d.instance and q.envelope_digest = d.envelope_digest
left join (
    -- of the first round; its job is the one that was sent, unless somebody stopped that
    select instance, envelope_digest, arg_min(job_id, repetition) as job_id, any_value(backend) as backend,
        any_value(evidence_class) as evidence_class, any_value(shots)::double as shots
    from {{ ref('stg_quantum_samples') }}
    where round = 0
    group by instance, envelope_digest
) as s on s.instance = d.instance and s.envelope_digest = d.envelope_digest
left join {{ ref('stg_control_jobs') }} as j on j.job_id = coalesce(s.job_id, q.job_id)
left join runs as r on r.instance = d.instance
left join behind as b on b.instance = d.instance and b.envelope_digest = d.envelope_digest
