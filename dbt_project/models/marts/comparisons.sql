select
    r.*,
    i.encoding_is_current and coalesce(r.envelope_digest = i.envelope_digest, false) as is_current
from {{ ref('stg_baseline_comparisons') }} as r
inner join {{ ref('int_instances') }} as i using (instance)
where i.blocked_by is null
