{{ config(meta={"dagster": {"ref": {"name": "comparisons"}}}) }}
-- best_quantum is never better than every feasible candidate of the quantum arm: no surrogate, control or baseline
-- can have filled it.
with quantum as (
    select instance, envelope_digest, min(objective) as lowest, max(objective) as highest
    from {{ ref('candidates') }}
    where arm = 'quantum' and feasible
    group by all
)

select c.instance, c.best_quantum, q.lowest, q.highest
from {{ ref('comparisons') }} as c
left join quantum as q using (instance, envelope_digest)
where c.best_quantum is not null
    and coalesce(
        case c.sense
            when 'min' then c.best_quantum < q.lowest - 1e-9 * greatest(1, abs(q.lowest))
            else c.best_quantum > q.highest + 1e-9 * greatest(1, abs(q.highest))
        end,
        true
    )
