-- All jobs of the ledger, and submitted ones it does not show yet. A job serves several instances when their payloads
-- are equal, so the key is (job_id, instance). Blocked instances stay visible here.
with jobs as (
    select
        q.instance is not null as is_newest,
        coalesce(q.instance, j.instance) as instance,
        coalesce(q.family, j.family) as family,
        coalesce(q.envelope_digest, j.envelope_digest) as envelope_digest,
        coalesce(q.job_id, j.job_id) as job_id,
        coalesce(j.state, 'intended') as state,
        j.* exclude (instance, family, envelope_digest, job_id, state),
        q.coupling_map,
        q.estimated_logical_two_qubit_gates,
        q.estimated_logical_depth,
        q.estimated_two_qubit_gates,
        q.estimated_depth,
        q.device_seconds,
        q.device_cost,
        q.device_priced_as
    from {{ ref('stg_control_jobs') }} as j
    full outer join {{ ref('stg_quantum_jobs') }} as q on q.job_id = j.job_id
),

rounds as (
    select distinct instance, job_id, envelope_digest from {{ ref('stg_quantum_samples') }}
)

select
    jobs.instance,
    jobs.family,
    jobs.job_id,
    jobs.envelope_digest,
    jobs.backend,
    jobs.evidence_class,
    jobs.state,
    jobs.created_at,
    jobs.updated_at,
    jobs.queue_seconds,
    jobs.compile_seconds,
    jobs.execute_seconds,
    jobs.post_process_seconds,
    jobs.total_seconds,
    jobs.shots,
    jobs.tuning_shots,
    jobs.circuits,
    jobs.width,
    jobs.depth,
    jobs.two_qubit_gates,
    jobs.estimated_cost,
    jobs.actual_cost,
    jobs.attempts,
    jobs.fallback_path,
    jobs.parameters,
    jobs.sdk_versions,
    jobs.calibration,
    jobs.error,
    jobs.correlation_id,
    jobs.idempotency_key,
    coalesce(
        i.encoding_is_current and (jobs.is_newest or rounds.envelope_digest = i.envelope_digest), false
    ) as is_current,
    coalesce(jobs.is_newest and i.pending, false) as pending,
    i.blocked_by,
    jobs.owner,
    jobs.priority,
    jobs.hop,
    {{ fallback_reason('jobs.fallback_path') }} as fallback_reason,
    coalesce(jobs.cached, false) as cached,
    jobs.policy_version,
    jobs.replay_of,
    jobs.resubmissions,
    jobs.sent_at,
    jobs.started_at,
    jobs.ended_at,
    jobs.backend_version,
    jobs.logical_depth,
    jobs.logical_two_qubit_gates,
    jobs.layout,
    jobs.success_probability,
    coalesce(jobs.noise_dominated, false) as noise_dominated,
    jobs.expectation_raw,
    jobs.expectation_mitigated,
    jobs.discarded_shots,
    jobs.coupling_map,
    jobs.estimated_logical_two_qubit_gates,
    jobs.estimated_logical_depth,
    jobs.estimated_two_qubit_gates,
    jobs.estimated_depth,
    jobs.device_seconds,
    jobs.device_cost,
    jobs.device_priced_as
from jobs
left join {{ ref('int_instances') }} as i on i.instance = jobs.instance
left join rounds on rounds.job_id = jobs.job_id and rounds.instance = jobs.instance
qualify row_number() over (partition by jobs.job_id, jobs.instance order by is_current desc) = 1
