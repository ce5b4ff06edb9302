-- Best objective so far of every proposer: the quantum side after each of its jobs, the baselines at each improvement.
with jobs as (
    select distinct instance, repetition, round, backend, seconds
    from {{ ref('samples') }}
),

clocked as (
    select
        *,
        sum(seconds) over (partition by instance order by repetition, round rows unbounded preceding) as elapsed
    from jobs
),

finished as (
    select instance, round, max(elapsed) as elapsed from clocked group by all
),

proposed as (
    select
        c.instance,
        c.family,
        c.arm,
        c.backend as proposer,
        f.elapsed as seconds,
        arg_min(c.objective, c.rank) as objective,
        arg_min(c.evidence_class, c.rank) as evidence_class,
        arg_min(c.post_processing, c.rank) as post_processing,
        c.is_current
    from {{ ref('candidates') }} as c
    -- a candidate of a walk may have the weaker evidence, and the backend, of an earlier round's answer
    inner join finished as f on f.instance = c.instance and f.round = c.round
    where c.feasible and c.arm != 'random_control'
    group by c.instance, c.family, c.arm, c.backend, f.elapsed, c.is_current
),

solved as (
    select
        instance,
        family,
        'baseline' as arm,
        solver as proposer,
        unnest(json_transform(trajectory, '[["DOUBLE"]]')) as point,
        evidence_class,
        'raw' as post_processing,
        is_current
    from {{ ref('baselines') }}
),

points as (
    select instance, family, arm, proposer, seconds, objective, evidence_class, post_processing, is_current
    from proposed
    union all
    select instance, family, arm, proposer, point[1], point[2], evidence_class, post_processing, is_current
    from solved
),

ordered as (
    select
        p.*,
        row_number() over (partition by instance, arm, proposer order by seconds, objective) as step,
        case when n.sense = 'max' then -1 else 1 end as direction
    from points as p
    inner join {{ ref('stg_normalized_inputs') }} as n using (instance)
)

select
    instance,
    family,
    arm,
    proposer,
    step,
    seconds,
    objective,
    direction * min(direction * objective) over (
        partition by instance, arm, proposer order by step rows unbounded preceding
    ) as best_objective,
    evidence_class,
    post_processing,
    is_current
from ordered
