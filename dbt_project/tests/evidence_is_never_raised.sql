{{ config(meta={"dagster": {"ref": {"name": "candidates"}}}) }}
-- No row claims a better evidence class than the job, the read-outs or the candidates it comes from.
with claims as (
    select 'samples' as mart, s.instance, s.evidence_class as claimed, j.evidence_class as best
    from {{ ref('samples') }} as s
    inner join {{ ref('stg_control_jobs') }} as j using (job_id)
    where j.evidence_class is not null

    union all

    select 'candidates', c.instance, c.evidence_class, s.evidence_class
    from {{ ref('candidates') }} as c
    inner join (
        select instance, envelope_digest, arg_max(evidence_class, {{ evidence_rank('evidence_class') }}) as evidence_class
        from {{ ref('samples') }}
        group by all
    ) as s using (instance, envelope_digest)

    union all

    select 'decisions', d.instance, d.evidence_class, coalesce(c.evidence_class, 'classical')
    from {{ ref('decisions') }} as d
    left join (
        select instance, envelope_digest, arg_max(evidence_class, {{ evidence_rank('evidence_class') }}) as evidence_class
        from {{ ref('candidates') }}
        group by all
    ) as c using (instance, envelope_digest)
    where d.evidence_class <> 'none'
)

select *
from claims
where {{ evidence_rank('claimed') }} > {{ evidence_rank('best') }}
