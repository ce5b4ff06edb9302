select
    r.*,
    r.input_digest = i.input_digest as is_current
from {{ ref('stg_baseline_runs') }} as r
inner join {{ ref('int_instances') }} as i using (instance)
where i.blocked_by is null
